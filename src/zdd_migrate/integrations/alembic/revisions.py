"""A plan written as Alembic revisions: one for each phase, in one line, the last with the old id.

What contract takes out of use is dropped by a revision of its own. The last revision keeps the id of
the revision that was planned, so that later revisions and databases that already ran it fit on. What
the file said before is kept beside the plan.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from zdd_migrate.errors import InputError
from zdd_migrate.integrations.alembic.project import Revision
from zdd_migrate.model.plan import Backfill, Phase, Plan, Release, Step
from zdd_migrate.plan.directory import write

PLANS = "zdd"
"""Directory beside the revisions that holds the plans' own."""
_LONGEST_ID = 32  # alembic_version.version_num is a varchar(32)

_FILE = '''"""{title}

{words}
Revision ID: {id}
Revises: {down}
"""

from pathlib import Path

import zdd_migrate.integrations.alembic.operations  # noqa: F401  op.zdd_phase, op.zdd_undo
from alembic import op

revision = "{id}"
down_revision = {down_value}
branch_labels = None
depends_on = {needs}

PLAN = Path(__file__).parent / "{plans}" / "{plan}"


def upgrade() -> None:
    op.zdd_phase(PLAN, "{phase}"{drop})


def downgrade() -> None:
    op.zdd_undo(PLAN, "{back}"{drop})
'''


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: the plan's directory, and the revisions in order as (id, file)."""

    plan_dir: Path
    revisions: tuple[tuple[str, Path], ...]


def write_revisions(plan: Plan, planned: Revision, versions: Path) -> Written:
    """Write the plan's directory and its revisions into `versions`. InputError."""
    phases = [phase for phase in Phase if plan.steps.get(phase)]
    if not phases:
        raise InputError(f"{planned.path}: the plan has no step: there is nothing to write")
    plan_dir = versions / PLANS / plan.name
    versions.mkdir(parents=True, exist_ok=True)
    write(plan, plan_dir)
    (plan_dir / f"{planned.path.name}.orig").write_text(planned.text, encoding="utf-8")
    down: tuple[str, ...] = planned.down
    back = "start"
    out = []
    parts = [(phase, False) for phase in phases if any(plan.part(phase, drop=False))]
    parts += [(phase, True) for phase in phases if any(plan.part(phase, drop=True))]
    for position, (phase, drop) in enumerate(parts, start=1):
        last = position == len(parts)
        id_ = planned.id if last else _id(planned.id, phase)
        name = planned.path.name if last else f"{id_}_{plan.name}.py".replace("-", "_")
        text = _FILE.format(
            title=f"{plan.name}: {'drop' if drop else phase.value} ({position} of {len(parts)})",
            words=_words(plan, phase, drop=drop),
            id=id_,
            down=", ".join(down) or "nothing",
            down_value=_python(down),
            needs=_python(planned.needs if position == 1 else ()),
            plans=PLANS,
            plan=plan.name,
            phase=phase.value,
            back=back,
            drop=", drop=True" if drop else "",
        )
        (versions / name).write_text(text, encoding="utf-8")
        out.append((id_, versions / name))
        down, back = (id_,), phase.value
    return Written(plan_dir, tuple(out))


def _python(names: tuple[str, ...]) -> str:
    """Revision ids as Alembic's files have them: None, one, or a tuple."""
    if not names:
        return "None"
    quoted = [f'"{name}"' for name in names]
    return quoted[0] if len(quoted) == 1 else f"({', '.join(quoted)})"


def _id(original: str, phase: Phase) -> str:
    """`ab12_expand`; shortened by a hash where the version table could not hold it."""
    name = f"{original}_{phase.value}"
    if len(name) <= _LONGEST_ID:
        return name
    mark = hashlib.sha256(original.encode()).hexdigest()[:8]
    return f"{original[: _LONGEST_ID - len(phase.value) - 10]}_{mark}_{phase.value}"


def _words(plan: Plan, phase: Phase, *, drop: bool) -> str:
    """What the phase does, step by step, and what has to be so before it."""
    lines = []
    if drop:
        lines += [
            "Has no way back, and refuses to run until somebody says so:",
            f"alembic -x zdd-approve-drop={plan.name} upgrade …",
            "",
        ]
    elif phase is Phase.CONTRACT:
        lines += [
            "Refuses to run until no old code is left and somebody says so:",
            f"alembic -x zdd-approve={plan.name} upgrade …",
            "",
        ]
    for step in plan.part(phase, drop=drop):
        if not isinstance(step, Release):
            lines.append(f"- {_plain(_of(step))}")
    releases = [s for s in plan.part(phase, drop=drop) if isinstance(s, Release)]
    lines += [f"After this: {_plain(r.why)}." for r in releases]
    return "\n".join(lines) + "\n"


def _of(step: Step) -> str:
    return f"{step.why} ({step.batch:,} rows a batch)" if isinstance(step, Backfill) else step.why


def _plain(text: str) -> str:
    """Text that cannot end a docstring."""
    return re.sub(r'["\\]', "'", " ".join(text.split()))
