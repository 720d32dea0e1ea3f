"""Every error this project raises on purpose, with the exit status it ends a command with.

    ZddError                    1   (never raised bare)
    ├── FindingsError           1   findings at or above the bar, a failed verdict
    ├── InputError              2   bad usage, or input that could not be understood
    │   └── PlanMovedError      2   the schema is no longer the one the plan was made for
    └── EnvironmentFailedError  3   no Postgres, connection lost, lock not obtained
        ├── NoServerError       3   no Postgres could be had
        └── LockNotObtainedError 3  gave up waiting for a lock

Text of an error: what happened, naming file, line and object; then what to do. One line.
Exit statuses are those of the public contract: 0 safe or done, 1 findings, 2 input, 3 environment.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FINDINGS = 1
EXIT_INPUT = 2
EXIT_ENVIRONMENT = 3


class ZddError(Exception):
    """Base of all. `exit_status` is what a command line ends with when it escapes."""

    exit_status = EXIT_FINDINGS


class FindingsError(ZddError):
    """Something was found that the user asked to fail on."""

    exit_status = EXIT_FINDINGS


class InputError(ZddError):
    """The input is missing, malformed, or not understood."""

    exit_status = EXIT_INPUT


class PlanMovedError(InputError):
    """The schema moved since the plan was made: its hash differs."""


class EnvironmentFailedError(ZddError):
    """The world outside failed: server, network, permission, lock."""

    exit_status = EXIT_ENVIRONMENT


class NoServerError(EnvironmentFailedError):
    """No Postgres server could be had from any provider."""


class LockNotObtainedError(EnvironmentFailedError):
    """A lock could not be had within the attempts that the policy allows."""
