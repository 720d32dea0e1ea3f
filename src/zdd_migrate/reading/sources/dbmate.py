"""dbmate: `-- migrate:up` and `-- migrate:down` in one file, ordered by the text of their names.

One transaction a file, unless the annotation says `transaction:false`: the section is then one
message, which Postgres runs in a transaction all the same unless it holds a single statement.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from zdd_migrate.model.statement import Migration
from zdd_migrate.reading.statements import read_sql, section

_UP = re.compile(r"^--\s*migrate:up\b([^\n]*)$", re.MULTILINE)
_DOWN = re.compile(r"^--\s*migrate:down\b", re.MULTILINE)
_ALONE = re.compile(r"\btransaction\s*:\s*false\b")


def read(text: str, path: Path) -> Migration:
    """Read the file's way forward."""
    up = _UP.search(text)
    if up is None:
        problem = (1, "there is no -- migrate:up, so that dbmate refuses the file")
        return replace(read_sql(text, str(path)), problems=(problem,))
    down = _DOWN.search(text, up.end())
    alone = _ALONE.search(up[1]) is not None
    migration = read_sql(
        section(text, up.end(), down.start() if down else len(text)),
        str(path),
        in_transaction=not alone,
        at_once=alone,
    )
    if down is None:
        problem = (1, "there is no -- migrate:down, so that dbmate refuses the file")
        return replace(migration, problems=(*migration.problems, problem))
    return migration


def in_order(files: Sequence[Path]) -> list[Path]:
    """By name, as text: 10 comes before 9."""
    return sorted(files, key=lambda file: file.name)
