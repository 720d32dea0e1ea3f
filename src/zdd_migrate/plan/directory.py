"""A plan on disk: a directory that people review, edit and run.

`plan.yaml` holds the steps and everything about them but their SQL; the SQL stands in
`1_expand.sql … 4_contract.sql` and their `.undo.sql`, each step under a `-- step: expand-1` line,
each statement ended by a `;` at a line's end. Both are read back, so that an edit of either counts.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zdd_migrate.errors import InputError
from zdd_migrate.formats.plan_json import KINDS, dual_to_json
from zdd_migrate.model.locks import LockMode
from zdd_migrate.model.names import QName
from zdd_migrate.model.plan import (
    Alternative,
    Backfill,
    DualWrite,
    Gate,
    Law,
    Phase,
    Plan,
    Release,
    Sql,
    Step,
    Validate,
)
from zdd_migrate.plan.readme import readme
from zdd_migrate.reading.split import split

PLAN = "plan.yaml"
_MARK = "-- step: "
_VERSION = 1


def file_of(phase: Phase, *, undo: bool = False) -> str:
    """`1_expand.sql`, or `1_expand.undo.sql`."""
    return f"{phase.number}_{phase.value}{'.undo' if undo else ''}.sql"


def write(plan: Plan, path: Path) -> None:
    """Write the directory, whole or not at all. Only an earlier plan is ever replaced."""
    if path.exists() and not (path / PLAN).is_file() and (path.is_file() or any(path.iterdir())):
        raise InputError(f"{path} is there and holds no plan: choose another directory for -o")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        for name, text in _files(plan).items():
            (partial / name).write_text(text, encoding="utf-8")
        partial.chmod(0o755)
        if path.exists():
            old = path.with_name(f".{path.name}-old-{os.getpid()}")
            path.rename(old)
            partial.rename(path)
            shutil.rmtree(old)
        else:
            partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _files(plan: Plan) -> dict[str, str]:
    import yaml

    class _Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    _Dumper.add_representer(str, text)
    files = {
        PLAN: "# The plan's steps; their SQL stands in the .sql files beside this one.\n"
        + yaml.dump(_head(plan), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=96),
        "README.md": readme(plan),
        "before.sql": plan.before,
        "migration.sql": "".join(f"{s};\n" for s in plan.sources),
    }
    for phase in Phase:
        steps = plan.steps.get(phase, ())
        if not steps:
            continue
        files[file_of(phase)] = _script(phase, steps, undo=False)
        if any(step.undo for step in steps):
            files[file_of(phase, undo=True)] = _script(phase, steps, undo=True)
    return files


def _head(plan: Plan) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "name": plan.name,
        "pg_version": plan.pg_version,
        "schema_hash": plan.schema_hash,
        "touches": [list(t) for t in plan.touches],
        "breaks_old": plan.breaks_old,
        "restricts_old": plan.restricts_old,
        "phases": {
            phase.value: [_step_head(step) for step in plan.steps.get(phase, ())] for phase in Phase
        },
        "laws": [
            {"name": w.name, "query": w.query, "since": w.since.value, "until": w.until.value}
            for w in plan.laws
        ],
        "notes": list(plan.notes),
        "alternatives": [asdict(one) for one in plan.alternatives],
        **({"search_path": list(plan.search_path)} if plan.search_path else {}),
        **(
            {"dual_writes": [dual_to_json(d) for d in plan.dual_writes]} if plan.dual_writes else {}
        ),
        **({"leaves": [{"object": o, "what": w} for o, w in plan.leaves]} if plan.leaves else {}),
    }


def _step_head(step: Step) -> dict[str, Any]:
    head: dict[str, Any] = {"id": step.id, "kind": KINDS[type(step)], "why": step.why}
    if step.undo is None:
        head["undo"] = "none: the point of no return"
    match step:
        case Sql():
            head["transactional"] = step.transactional
            if step.undo and step.undo_transactional != step.transactional:
                head["undo_transactional"] = step.undo_transactional
            if step.lock is not None:
                head["lock"] = str(step.lock)
            if step.relation is not None:
                head["relation"] = step.relation
            head["lock_timeout_ms"] = step.lock_timeout_ms
            head["statement_timeout_ms"] = step.statement_timeout_ms
            if step.after_days:
                head["after_days"] = step.after_days
        case Validate():
            head.update(table=step.table, constraint=step.constraint, lock=str(step.lock))
        case Backfill():
            head.update(
                table=step.table,
                key=list(step.key),
                set=[{"column": c, "to": e} for c, e in step.assignments],
                where=step.where,
                batch=step.batch,
            )
        case Gate():
            head.update(query=step.query, message=step.message)
        case Release():
            head["code"] = step.code
            if step.flag is not None:
                head["flag"] = step.flag
    return head


def _script(phase: Phase, steps: tuple[Step, ...], *, undo: bool) -> str:
    title = f"the way back from {phase.value}" if undo else f"phase {phase.number}: {phase.value}"
    lines = [f"-- {title}", ""]
    for step in reversed(steps) if undo else steps:
        statements = step.undo or () if undo else _statements(step)
        if not statements and (undo or not isinstance(step, (Backfill, Gate, Release))):
            continue
        lines.append(f"{_MARK}{step.id}")
        lines.append(f"-- {'undoes: ' if undo else ''}{step.why}")
        if not undo:
            lines += _remarks(step)
        for statement in statements:
            lines.append(f"{statement};")
        lines.append("")
    return "\n".join(lines)


def _statements(step: Step) -> tuple[str, ...]:
    return step.statements if isinstance(step, Sql) else ()


def _remarks(step: Step) -> list[str]:
    match step:
        case Sql():
            mode = "one transaction" if step.transactional else "outside a transaction"
            lock = f"; {step.lock} on {step.relation}" if step.lock and step.relation else ""
            return [f"-- {mode}{lock}; lock_timeout {step.lock_timeout_ms} ms"]
        case Validate():
            return [f"-- runs: {step.statements[0]}"]
        case Backfill():
            sets = ", ".join(f"{c} = {e}" for c, e in step.assignments)
            return [f"-- in batches: UPDATE {step.table} SET {sets} WHERE {_flat(step.where)}"]
        case Gate():
            return [f"-- must return no row: {_flat(step.query)}"]
        case Release():
            return [f"-- deploy: {step.code}"]


def _flat(text: str) -> str:
    return " ".join(text.split())


# -- reading -----------------------------------------------------------------------------------


def read(path: Path) -> Plan:
    """Read a plan's directory; InputError names the file and what is wrong with it."""
    head = _load(path)
    try:
        return _plan(path, head)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path / PLAN}: not a plan of this version: {what}") from None


def _load(path: Path) -> dict[str, Any]:
    import yaml

    file = path / PLAN
    if not file.is_file():
        raise InputError(
            f"{path} holds no plan ({PLAN} is not there); zdd-migrate plan -o writes one"
        )
    try:
        head = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f":{line + 1}" if line is not None else ""
        raise InputError(f"{file}{where}: this is not YAML that can be read") from None
    if not isinstance(head, dict) or head.get("version") != _VERSION:
        raise InputError(f"{file}: not a plan of version {_VERSION}")
    return head


def _plan(path: Path, head: dict[str, Any]) -> Plan:
    steps: dict[Phase, tuple[Step, ...]] = {}
    for phase in Phase:
        heads = head["phases"].get(phase.value) or []
        forward = _read_script(path / file_of(phase), {h["id"]: _runs_no_sql(h) for h in heads})
        back = _read_script(
            path / file_of(phase, undo=True), {h["id"]: _has_no_undo(h) for h in heads}
        )
        steps[phase] = tuple(_step(h, forward, back) for h in heads)
    before = path / "before.sql"
    migration = path / "migration.sql"
    return Plan(
        name=head["name"],
        schema_hash=head["schema_hash"],
        steps=steps,
        laws=tuple(
            Law(w["name"], w["query"], Phase(w["since"]), Phase(w["until"]))
            for w in head.get("laws") or ()
        ),
        notes=tuple(head.get("notes") or ()),
        sources=_pieces(migration),
        before=before.read_text(encoding="utf-8") if before.is_file() else "",
        touches=tuple(QName(*t) for t in head.get("touches") or ()),
        breaks_old=bool(head.get("breaks_old", True)),
        restricts_old=bool(head.get("restricts_old", False)),
        pg_version=head.get("pg_version"),
        alternatives=tuple(Alternative(**one) for one in head.get("alternatives") or ()),
        search_path=tuple(head.get("search_path") or ()),
        dual_writes=tuple(_dual(one) for one in head.get("dual_writes") or ()),
        leaves=tuple((left["object"], left["what"]) for left in head.get("leaves") or ()),
    )


def _dual(head: dict[str, Any]) -> DualWrite:
    old, new = (
        tuple((one["column"], one["type"], one["from"]) for one in head[side])
        for side in ("old", "new")
    )
    return DualWrite(QName(*head["table"]), old, new)


def _step(
    head: dict[str, Any], forward: dict[str, tuple[str, ...]], back: dict[str, tuple[str, ...]]
) -> Step:
    id_, why = head["id"], head["why"]
    undo = None if head.get("undo") else back.get(id_, ())
    kind = head["kind"]
    if kind == "sql":
        transactional = bool(head.get("transactional", True))
        return Sql(
            id=id_,
            statements=forward.get(id_, ()),
            undo=undo,
            why=why,
            transactional=transactional,
            undo_transactional=bool(head.get("undo_transactional", transactional)),
            lock=LockMode(head["lock"]) if head.get("lock") else None,
            relation=head.get("relation"),
            lock_timeout_ms=int(head.get("lock_timeout_ms", 2000)),
            statement_timeout_ms=int(head.get("statement_timeout_ms", 0)),
            after_days=int(head.get("after_days", 0)),
        )
    if kind == "validate":
        lock = LockMode(head.get("lock", str(LockMode.SHARE_UPDATE_EXCLUSIVE)))
        table, constraint = head["table"], head["constraint"]
        return Validate(id=id_, table=table, constraint=constraint, why=why, lock=lock, undo=undo)
    if kind == "backfill":
        return Backfill(
            id=id_,
            table=head["table"],
            key=tuple(head["key"]),
            assignments=tuple((s["column"], s["to"]) for s in head["set"]),
            where=head["where"],
            why=why,
            batch=int(head.get("batch", 1000)),
            undo=undo,
        )
    if kind == "gate":
        return Gate(id=id_, query=head["query"], message=head["message"], why=why, undo=undo)
    if kind == "release":
        return Release(id=id_, code=head["code"], why=why, flag=head.get("flag"), undo=undo)
    raise ValueError(f"step {id_} is of unknown kind {kind}")


def _runs_no_sql(head: dict[str, Any]) -> str:
    """Why SQL that stands under a step would never run; "" where it does."""
    kind = head["kind"]
    if kind == "sql":
        return ""
    return f"{head['id']} is a {kind} step, which runs what {PLAN} says of it and no SQL from here"


def _has_no_undo(head: dict[str, Any]) -> str:
    """The same for its way back."""
    if not head.get("undo"):
        return ""
    return f"{head['id']} has no way back ({PLAN} says undo: none), so this would never run"


def _read_script(file: Path, known: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """The statements of a script by step. `known` says of each step why SQL must not stand there,
    "" where it may: nothing that somebody wrote is left out without a word."""
    if not file.is_file():
        return {}
    sections: dict[str, tuple[str, ...]] = {}
    current: str | None = None
    buffer: list[str] = []
    started = 0

    def close() -> None:
        if current is not None:
            text = "\n".join(buffer)
            sections[current] = _statements_of(text, file, started)
            if sections[current] and known[current]:
                line = started + _lines_before(text) + 1
                raise InputError(
                    f"{file}:{line}: {known[current]}: put it under an sql step, or take it out"
                )
        elif _statements_of("\n".join(buffer), file, 0):
            raise InputError(f"{file}:1: SQL before the first `{_MARK.strip()}` line")

    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
        if line.startswith(_MARK):
            close()
            current, buffer, started = line[len(_MARK) :].strip(), [], number
            if current not in known:
                raise InputError(f"{file}:{number}: {PLAN} knows no step {current}")
            if current in sections:
                raise InputError(f"{file}:{number}: step {current} stands here twice")
        else:
            buffer.append(line)
    close()
    return sections


def _statements_of(text: str, file: Path, offset: int) -> tuple[str, ...]:
    out = []
    for piece in split(text):
        if piece.kind == "broken":
            line = offset + text[: piece.start].count("\n") + 1
            raise InputError(f"{file}:{line}: {piece.problem}")
        if piece.kind == "statement":
            out.append(piece.text.rstrip().removesuffix(";").rstrip())
    return tuple(out)


def _lines_before(text: str) -> int:
    """How many lines stand before the first statement."""
    start = next(piece.start for piece in split(text) if piece.kind == "statement")
    return text[:start].count("\n")


def _pieces(file: Path) -> tuple[str, ...]:
    return _statements_of(file.read_text(encoding="utf-8"), file, 0) if file.is_file() else ()


def plan_hash(path: Path) -> str:
    """A hash over everything that says what will run: a verdict is for one such hash."""
    digest = hashlib.sha256()
    for name in [PLAN, *(file_of(p, undo=u) for p in Phase for u in (False, True))]:
        file = path / name
        digest.update(f"{name}\0".encode())
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()
