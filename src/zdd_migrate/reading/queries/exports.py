"""Exports of pg_stat_statements: `\\copy (SELECT * FROM pg_stat_statements) TO 'x.csv' CSV HEADER`,
or `SELECT json_agg(s) FROM pg_stat_statements s`. Statements come normalised, with $1 for values."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

Row = tuple[str, int, None, int]


def read_csv(text: str) -> list[Row] | None:
    """None where this is no CSV with a column called query."""
    first = text.split("\n", 1)[0].strip().lower()
    names = [name.strip('" \r') for name in first.split(",")]
    if "query" not in names:
        return None
    reader = csv.DictReader(io.StringIO(text.replace("\0", "")))
    reader.fieldnames = [str(n).strip().lower() for n in reader.fieldnames or ()]
    rows: list[Row] = []
    line = reader.line_num
    for row in reader:
        if row.get("query"):
            rows.append((row["query"], line + 1, None, _calls(row)))
        line = reader.line_num
    return rows


def read_json(text: str) -> list[Row] | None:
    """None where this is no JSON of objects that have a query: an array, or one object a line."""
    stripped = text.lstrip("\ufeff \n\r\t")
    if stripped[:1] not in "[{" or not stripped:
        return None
    try:
        whole = json.loads(stripped)
        found = whole if isinstance(whole, list) else [whole]
        lines = [1] * len(found)
    except ValueError:
        pairs = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
        try:
            found = [json.loads(line) for _, line in pairs]
        except ValueError:
            return None
        lines = [n for n, _ in pairs]
    if not all(isinstance(row, dict) and isinstance(row.get("query"), str) for row in found):
        return None
    return [(row["query"], n, None, _calls(row)) for row, n in zip(found, lines, strict=True)]


def _calls(row: Mapping[str, Any]) -> int:
    try:
        return int(row.get("calls") or 1)
    except (TypeError, ValueError):
        return 1
