"""What can go wrong in a release, by what is done about it.

StepFailedError     the release's own fault: it is taken back
FencedError         another runner has taken over: this one stops, and touches nothing
JournalGoneError    the journal cannot be reached: nothing is promoted, traffic flows on
BusyError           another runner is at work
InterruptedPhaseError  a command arrived while a phase ran; the phase is resumed or undone
"""

from __future__ import annotations

from zdd_migrate.errors import EnvironmentFailedError, FindingsError, LockNotObtainedError


class StepFailedError(FindingsError):
    """An instance, a warm-up, a smoke test or a judgement failed: the release is taken back."""


class FencedError(EnvironmentFailedError):
    """A runner with a higher epoch was here; whatever this one still wants is out of date."""


class JournalGoneError(EnvironmentFailedError):
    """The journal cannot be reached."""


class BusyError(LockNotObtainedError):
    """Another runner is at work on this environment or on its database."""


class InterruptedPhaseError(Exception):
    """A pause or an abort came while a phase of the plan ran; its steps can be resumed."""
