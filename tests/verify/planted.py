"""Plans broken the way a careless person breaks them, each beside its intact twin.

A story is a schema, rows and a migration, planned for real. A fault edits the plan's directory by
hand, as somebody would who knows better and does not. `shows` is what the verdict must name: the
SQLSTATE, law or object, and (as `step`) where it came from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.story import BEFORE, SEED, plan_of
from zdd_migrate.model.plan import Plan
from zdd_migrate.model.verdict import Failure, Verdict
from zdd_migrate.plan.directory import read, write
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.walk import Effort, verify_plan

Edit = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Story:
    """What is planned; `answers` as of `plan_of`."""

    migration: str
    before: str = BEFORE
    seed: str = SEED
    answers: dict[str, str] = field(default_factory=dict)

    def plan(self) -> Plan:
        """The intact plan."""
        return plan_of(self.migration, self.before, **self.answers)

    def broken(self, path: Path, fault: Fault) -> Plan:
        """The plan after the fault's edits of its directory."""
        write(self.plan(), path)
        for edit in fault.edits:
            edit(path)
        return read(path)


@dataclass(frozen=True, slots=True)
class Fault:
    """A way to break a story's plan. `step` is a pattern of ids, "" where no step is to blame.

    Those not `in_suite` are near relatives of others, tried by benchmarks/faults.py alone.
    """

    name: str
    story: str
    edits: tuple[Edit, ...]
    shows: str
    step: str = ""
    in_suite: bool = True


# -- edits ---------------------------------------------------------------------------------------


def cut(file: str, pattern: str) -> Edit:
    """Delete what matches: a statement that somebody thought was not needed."""
    return swap(file, pattern, "")


def swap(file: str, pattern: str, new: str) -> Edit:
    """Replace what matches the pattern, everywhere in the file."""

    def edit(path: Path) -> None:
        script = path / file
        text = script.read_text()
        changed = re.sub(pattern, lambda _: new, text, flags=re.DOTALL)
        assert changed != text, f"{pattern} is not in {file}:\n{text}"
        script.write_text(changed)

    return edit


def add(file: str, after: str, statement: str) -> Edit:
    """Put a statement behind the first one that matches."""

    def edit(path: Path) -> None:
        script = path / file
        text = script.read_text()
        found = re.search(after + r"[^;]*;\n", text, flags=re.DOTALL)
        assert found is not None, f"{after} is not in {file}:\n{text}"
        script.write_text(f"{text[: found.end()]}{statement};\n{text[found.end() :]}")

    return edit


def move(source: str, pattern: str, target: str, after: str) -> Edit:
    """Take a statement from one phase's file to another's."""

    def edit(path: Path) -> None:
        text = (path / source).read_text()
        found = re.search(pattern, text, flags=re.DOTALL)
        assert found is not None, f"{pattern} is not in {source}"
        (path / source).write_text(text[: found.start()] + text[found.end() :])
        add(target, after, found[0].strip().removesuffix(";"))(path)

    return edit


def head(change: Callable[[dict[str, Any]], None]) -> Edit:
    """Edit plan.yaml."""

    def edit(path: Path) -> None:
        file = path / "plan.yaml"
        loaded = yaml.safe_load(file.read_text())
        before = yaml.safe_dump(loaded)
        change(loaded)
        assert yaml.safe_dump(loaded) != before
        file.write_text(yaml.safe_dump(loaded, sort_keys=False))

    return edit


def each_step(kind: str, **values: Any) -> Edit:
    """Set keys of every step of a kind."""

    def change(loaded: dict[str, Any]) -> None:
        for steps in loaded["phases"].values():
            for step in steps:
                if step["kind"] == kind:
                    step.update(values)

    return head(change)


def earlier(phase: str, target: str) -> Edit:
    """Move all SQL steps of a phase into an earlier one."""
    files = {"expand": 1, "migrate": 2, "switch": 3, "contract": 4}

    def edit(path: Path) -> None:
        def change(loaded: dict[str, Any]) -> None:
            loaded["phases"][target] += loaded["phases"][phase]
            loaded["phases"][phase] = []

        head(change)(path)
        for ending in (".sql", ".undo.sql"):
            here = path / f"{files[phase]}_{phase}{ending}"
            there = path / f"{files[target]}_{target}{ending}"
            both = [there, here] if ending == ".sql" else [here, there]
            text = "\n".join(f.read_text() for f in both if f.exists())
            there.write_text(text)
            here.unlink(missing_ok=True)

    return edit


# -- stories -------------------------------------------------------------------------------------

_SPARSE = SEED.replace("g % 90", "nullif(g % 9, 0)")
_NESTED = (
    BEFORE
    + """
CREATE FUNCTION last_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN UPDATE users SET user_name = 'order ' || NEW.id WHERE id = NEW.user_id; RETURN NULL; END $$;
CREATE TRIGGER last_order AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION last_order();
"""
)
# new code's trigger names the new column: the shop keeps one per version of the name
_RENAME = "ALTER TABLE users RENAME COLUMN user_name TO username"

STORIES: dict[str, Story] = {
    "rename": Story(_RENAME),
    # everything that hangs on the column is made again for the one that takes its place
    "copied": Story('ALTER TABLE users ALTER COLUMN user_name TYPE varchar(100) COLLATE "C"'),
    "retype": Story(
        "ALTER TABLE users ALTER COLUMN age TYPE bigint",
        seed=SEED.replace("g % 90", "g * 301"),
    ),
    "fill": Story(
        "ALTER TABLE users ALTER COLUMN age SET NOT NULL",
        seed=_SPARSE,
        answers={"fill__users__age": "0"},
    ),
    "required": Story(
        "ALTER TABLE users ADD COLUMN city text NOT NULL", answers={"fill__users__city": "'?'"}
    ),
    "from the row": Story(
        "ALTER TABLE users ADD COLUMN key text NOT NULL; UPDATE users SET key = lower(email);"
    ),
    "volatile": Story("ALTER TABLE users ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()"),
    "serial": Story("ALTER TABLE users ADD COLUMN n serial"),
    "drop": Story("ALTER TABLE users DROP COLUMN age"),
    "index": Story("CREATE INDEX users_age_idx ON users (age)"),
    "foreign key": Story(
        "ALTER TABLE orders ADD CONSTRAINT orders_again FOREIGN KEY (user_id) REFERENCES users (id)"
    ),
    "check": Story("ALTER TABLE users ADD CONSTRAINT adult CHECK (age >= 0)"),
    "unique": Story("ALTER TABLE orders ADD CONSTRAINT orders_one UNIQUE (id, user_id)"),
    "table": Story("ALTER TABLE orders RENAME TO purchases"),
}

# -- faults --------------------------------------------------------------------------------------

_EXPAND, _MIGRATE, _SWITCH, _CONTRACT = (
    "1_expand.sql",
    "2_migrate.sql",
    "3_switch.sql",
    "4_contract.sql",
)
_UNEXPAND, _UNMIGRATE, _UNCONTRACT = (
    "1_expand.undo.sql",
    "2_migrate.undo.sql",
    "4_contract.undo.sql",
)
_TRIGGER = r"CREATE TRIGGER [^;]*;\n(?:ALTER TABLE [^;]* ENABLE ALWAYS TRIGGER [^;]*;\n)?"
_FUNCTION = r"CREATE OR REPLACE FUNCTION .*?\$zdd\$;\n"

FAULTS: tuple[Fault, ...] = (
    # the sync trigger
    Fault("trigger missing", "rename", (cut(_EXPAND, _TRIGGER),), "username = up(user_name)"),
    Fault(
        "trigger after the backfill",
        "rename",
        (move(_EXPAND, _TRIGGER, _MIGRATE, "CREATE INDEX CONCURRENTLY"),),
        "23514|23502|username = up",
    ),
    Fault(
        "trigger for inserts only",
        "rename",
        (swap(_EXPAND, "BEFORE INSERT OR UPDATE", "BEFORE INSERT"),),
        "username = up(user_name)",
    ),
    Fault(
        "trigger for one column's updates",
        "rename",
        (swap(_EXPAND, "BEFORE INSERT OR UPDATE", "BEFORE INSERT OR UPDATE OF user_name"),),
        "username = up(user_name)",
    ),
    Fault(
        "trigger fires after",
        "rename",
        (swap(_EXPAND, "BEFORE INSERT OR UPDATE", "AFTER INSERT OR UPDATE"),),
        "username = up(user_name)|23502",
        in_suite=False,
    ),
    Fault(
        "wrong up in the trigger",
        "rename",
        (
            swap(
                _EXPAND,
                r"NEW\.username := NEW\.user_name;",
                "NEW.username := upper(NEW.user_name);",
            ),
        ),
        "username = up(user_name)",
    ),
    Fault(
        "wrong down in the trigger",
        "rename",
        (
            swap(
                _EXPAND,
                r"NEW\.user_name := NEW\.username;",
                "NEW.user_name := left(NEW.username, 3);",
            ),
        ),
        "username = up(user_name)",
    ),
    Fault(
        "default on the new column",
        "rename",
        (
            swap(
                _EXPAND,
                r"ADD COLUMN username character varying\(100\)",
                "ADD COLUMN username character varying(100) DEFAULT 'x'",
            ),
        ),
        "LOST|lost",
    ),
    Fault(
        "trigger leaves NULL to the new code",
        "rename",
        (
            swap(
                _EXPAND,
                r"    IF NOT \(NEW.username IS NOT NULL\) THEN\n      NEW.username := NEW.user_name;\n    ELSIF",
                "    IF",
            ),
        ),
        "username = up(user_name)|23502|23514",
        in_suite=False,
    ),
    # the backfill
    Fault(
        "backfill leaves rows out",
        "rename",
        (each_step("backfill", where="username IS NULL AND id > 100"),),
        "23502|23514|username = up",
    ),
    Fault(
        "backfill computes something else",
        "rename",
        (
            each_step(
                "backfill",
                where="username IS NULL",
                set=[{"column": "username", "to": "initcap(user_name) || '?'"}],
            ),
        ),
        "username = up(user_name)|lost",
        in_suite=False,
    ),
    Fault(
        "backfill inside expand, under its lock",
        "rename",
        (
            add(
                _EXPAND,
                "ALTER TABLE public.users ADD COLUMN",
                "UPDATE public.users SET username = user_name",
            ),
        ),
        "public.users",
        "expand-1",
    ),
    # constraints
    Fault(
        "NOT NULL in expand",
        "rename",
        (
            add(
                _EXPAND,
                "CREATE TRIGGER",
                "ALTER TABLE public.users ALTER COLUMN username SET NOT NULL",
            ),
        ),
        "23502",
        "expand-1",
    ),
    Fault(
        "NOT NULL asked before old code fills it",
        "fill",
        (cut(_EXPAND, _TRIGGER),),
        "23514|23502",
        "migrate-",
    ),
    Fault(
        "check scans under its lock",
        "copied",
        (
            swap(
                _MIGRATE,
                r"CHECK \(zdd_new_user_name <> ''\) NOT VALID",
                "CHECK (zdd_new_user_name <> '')",
            ),
        ),
        "public.users",
        "migrate-2",
    ),
    Fault(
        "foreign key scans under its lock",
        "foreign key",
        (swap(_CONTRACT, " NOT VALID", ""),),
        "public.orders",
        "contract-2",
    ),
    Fault(
        "SET NOT NULL scans under its lock",
        "fill",
        (swap(_MIGRATE, r"CHECK \(age IS NOT NULL\) NOT VALID", "CHECK (true) NOT VALID"),),
        "public.users",
        "migrate-4",
        in_suite=False,
    ),
    Fault(
        "constraint not copied",
        "copied",
        (cut(_MIGRATE, r"ALTER TABLE [^;]*CHECK \(zdd_new_user_name <> ''\) NOT VALID;\n"),),
        "42704",
        "migrate-3",
        in_suite=False,
    ),
    Fault(
        "constraint renamed wrongly",
        "copied",
        (swap(_CONTRACT, "TO users_name_check", "TO users_name_checked"),),
        "users_name_check is missing",
        "contract-2",
    ),
    # indexes, defaults, comments, sequences
    Fault(
        "index not copied",
        "copied",
        (cut(_MIGRATE, r"CREATE INDEX CONCURRENTLY [^;]*;\n"),),
        "42P01",
        "contract-2",
        in_suite=False,
    ),
    Fault(
        "index forgotten altogether",
        "copied",
        (
            cut(_MIGRATE, r"CREATE INDEX CONCURRENTLY [^;]*;\n"),
            cut(_CONTRACT, r"ALTER INDEX [^;]*;\n"),
        ),
        "users_user_name_idx is missing",
    ),
    Fault(
        "index on the wrong expression",
        "copied",
        (swap(_MIGRATE, r"lower\(zdd_new_user_name\)", "upper(zdd_new_user_name)"),),
        "users_user_name_idx",
        "migrate-4|contract-2",
        in_suite=False,
    ),
    Fault(
        "index built without CONCURRENTLY",
        "index",
        (swap(_EXPAND, "CONCURRENTLY ", ""),),
        "ShareLock",
        "expand-1",
    ),
    Fault(
        "default forgotten",
        "copied",
        (cut(_CONTRACT, r"ALTER TABLE [^;]*SET DEFAULT[^;]*;\n"),),
        "users.user_name",
        in_suite=False,
    ),
    Fault("comment lost", "copied", (cut(_EXPAND, r"COMMENT ON [^;]*;\n"),), "users.user_name"),
    Fault(
        "sequence left behind",
        "serial",
        (cut(_EXPAND, r"ALTER SEQUENCE [^;]*OWNED BY[^;]*;\n"),),
        "users_n_seq",
        "expand-1",
    ),
    Fault(
        "default dropped too early",
        "required",
        (
            add(
                _EXPAND,
                "ADD COLUMN city",
                "ALTER TABLE public.users ALTER COLUMN city DROP DEFAULT",
            ),
        ),
        "23502",
        "expand-1",
        in_suite=False,
    ),
    Fault(
        "column without its default",
        "required",
        (swap(_EXPAND, r" DEFAULT '\?'", ""),),
        "23502",
        "expand-1",
    ),
    # locks
    Fault(
        "no lock_timeout behind a long transaction",
        "rename",
        (add(_EXPAND, "CREATE SCHEMA", "SET LOCAL lock_timeout = 0"),),
        "lock_timeout",
        "expand-1",
    ),
    Fault(
        "lock_timeout taken out of plan.yaml",
        "drop",
        (each_step("sql", lock_timeout_ms=0),),
        "lock_timeout",
        "contract-1",
        in_suite=False,
    ),
    Fault(
        "table rewritten in expand",
        "volatile",
        (
            swap(
                _EXPAND,
                "ADD COLUMN token uuid",
                "ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()",
            ),
        ),
        "public.users",
        "expand-1",
    ),
    # phases
    Fault(
        "contract before switch", "rename", (earlier("contract", "migrate"),), "42703", "contract-1"
    ),
    Fault(
        "column dropped before the release",
        "drop",
        (earlier("contract", "expand"),),
        "42703",
        "contract-1",
        in_suite=False,
    ),
    Fault(
        "column renamed in expand",
        "rename",
        (add(_EXPAND, "CREATE TRIGGER", "ALTER TABLE public.users RENAME user_name TO gone"),),
        "42703",
        "expand-1",
        in_suite=False,
    ),
    Fault(
        "filling stopped in migrate",
        "fill",
        (
            add(
                _MIGRATE,
                "DROP CONSTRAINT zdd_users_age_not_null",
                "DROP TRIGGER zzz_zdd_fill_age ON public.users",
            ),
        ),
        "23502",
        "migrate-4",
    ),
    Fault(
        "swap keeps the old function", "rename", (cut(_CONTRACT, _FUNCTION),), "42703", "contract-1"
    ),
    # types
    Fault(
        "type narrowed",
        "retype",
        (swap(_EXPAND, "ADD COLUMN zdd_new_age bigint", "ADD COLUMN zdd_new_age smallint"),),
        "22003",
        "expand-1|migrate-1",
    ),
    Fault(
        "digits lost",
        "retype",
        (
            swap(_EXPAND, r"\(SELECT age::bigint FROM", "(SELECT round(age, -3)::bigint FROM"),
            each_step(
                "backfill",
                set=[{"column": "zdd_new_age", "to": "round(age, -3)::bigint"}],
                where="zdd_new_age IS NULL AND age IS NOT NULL",
            ),
        ),
        "up(age)|lost",
    ),
    # the ways back
    Fault(
        "undo leaves the column",
        "rename",
        (cut(_UNEXPAND, r"ALTER TABLE [^;]*DROP COLUMN[^;]*;\n"),),
        "users.username was not there",
        "expand-1",
    ),
    Fault(
        "undo drops the old column",
        "rename",
        (swap(_UNEXPAND, "DROP COLUMN IF EXISTS username", "DROP COLUMN user_name"),),
        "user_name is missing",
        "expand-1",
    ),
    Fault(
        "undo misses a step",
        "drop",
        (cut(_UNCONTRACT, r"ALTER TABLE [^;]*RENAME COLUMN[^;]*;\n"),),
        "age",
        "contract-1",
    ),
    Fault(
        "undo of a drop makes an empty column",
        "drop",
        (
            swap(_UNCONTRACT, r"RENAME COLUMN zdd_old_age TO age", "ADD COLUMN age integer"),
            add(_UNCONTRACT, "ADD COLUMN age", "ALTER TABLE public.users DROP COLUMN zdd_old_age"),
        ),
        "lost",
    ),
    Fault(
        "undo leaves the swapped function",
        "rename",
        (cut(_UNCONTRACT, _FUNCTION),),
        "42703",
        "contract-1",
        in_suite=False,
    ),
    Fault(
        "undo without the trigger's removal",
        "rename",
        (cut(_UNEXPAND, r"DROP TRIGGER [^;]*;\n"),),
        "2BP01",
        "expand-1",
        in_suite=False,
    ),
    Fault(
        "view not recreated by the undo",
        "table",
        (cut(_UNCONTRACT, r"CREATE VIEW [^;]*;\n"),),
        "42P01",
        "contract-1",
    ),
    Fault(
        "view without a column",
        "table",
        (swap(_EXPAND, "SELECT id, user_id, note", "SELECT id, user_id"),),
        "42703",
        "expand-1",
    ),
    Fault(
        "undo misses the constraint",
        "check",
        (cut(_UNCONTRACT, r"ALTER TABLE [^;]*DROP CONSTRAINT[^;]*;\n"),),
        "adult was not there",
        "contract-2",
    ),
    Fault(
        "index built, constraint forgotten",
        "unique",
        (cut(_CONTRACT, r"ALTER TABLE [^;]*USING INDEX[^;]*;\n"),),
        "orders_one is missing",
    ),
    Fault(
        "fill trigger missing",
        "from the row",
        (cut(_EXPAND, _TRIGGER),),
        "23514|23502",
        "migrate-",
    ),
)


# -- trying --------------------------------------------------------------------------------------

_EFFORT = Effort(rounds=4, settle=1, rows=200)


def try_plan(story: Story, plan: Plan, server: Server) -> Verdict:
    """A verdict on a story's plan, with little effort: the faults are not subtle."""
    return verify_plan(
        plan, schema_sql=story.before, server=server, seed_sql=story.seed, effort=_EFFORT
    )


def shown(fault: Fault, verdict: Verdict) -> Failure | None:
    """The failure that names what the fault did, and the step it came with."""
    for failure in verdict.failures:
        text = f"{failure.sqlstate} {failure.message} {failure.statement}"
        if re.search(fault.shows.replace("(", r"\(").replace(")", r"\)"), text) and re.fullmatch(
            f"({fault.step}).*" if fault.step else ".*", failure.step or ""
        ):
            return failure
    return None
