"""SQLAlchemy models at work: insert, select, update, delete, refresh, relationship loads.

Runs in the environment of the code under test: standard library and SQLAlchemy alone. Values are
taken from rows that are there; what cannot be made up is left out, with a note.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import enum
import importlib
import importlib.util
import random
import sys
import time
import uuid
from typing import Any

from sqlalchemy import create_engine, event, inspect, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session, configure_mappers, joinedload, selectinload

_STATEMENT_TIMEOUT_MS = 20_000
_RETRIED = ("40P01", "40001")
_RELATED = 3


def make(job: Any, report: Any) -> Work:
    """The work that a job describes: models, a database, a seed."""
    for directory in reversed(job["path"]):
        sys.path.insert(0, directory)
    return Work(_mappers(job["models"]), job, report)


def _mappers(target: str) -> list[Any]:
    """The mappers of `module:Base`, tables that others refer to first."""
    module_name, _, attribute = target.partition(":")
    base: Any = importlib.import_module(module_name)
    for part in filter(None, attribute.split(".")):
        base = getattr(base, part)
    registry = getattr(base, "registry", None) or getattr(base, "_sa_registry", None) or base
    if not hasattr(registry, "mappers"):
        raise TypeError(f"{target} is no declarative base and no registry")
    configure_mappers()
    mappers = [m for m in registry.mappers if m.local_table is not None]
    if not mappers:
        raise TypeError(f"{target} has no mapped classes: does importing {module_name} load them?")
    order = {table: n for n, table in enumerate(mappers[0].local_table.metadata.sorted_tables)}
    return sorted(mappers, key=lambda m: (order.get(m.local_table, 0), m.class_.__name__))


def _url(dsn: str) -> str:
    """The same database by a driver that is installed here."""
    rest = dsn.partition("://")[2]
    for driver in ("psycopg", "psycopg2"):
        if importlib.util.find_spec(driver) is not None:
            return f"postgresql+{driver}://{rest}"
    raise ModuleNotFoundError("neither psycopg nor psycopg2 is installed there")


class Work:
    """One process of an application with these models."""

    def __init__(self, mappers: list[Any], job: Any, report: Any) -> None:
        self.mappers = mappers
        self.report = report
        self.random = random.Random(job["seed"])  # noqa: S311 - a workload, not a secret
        self.number = job["seed"] * 1_000_000
        self.started: list[float] = []
        url = _url(job["dsn"])
        settings: dict[str, Any] = {"options": f"-c statement_timeout={_STATEMENT_TIMEOUT_MS}"}
        if job["pooled"]:  # what is prepared or set would not be there the next time
            settings = {"prepare_threshold": None} if url.startswith("postgresql+psycopg:") else {}
        self.engine = create_engine(url, connect_args=settings)
        event.listen(self.engine, "before_cursor_execute", self._before)
        event.listen(self.engine, "after_cursor_execute", self._after)
        with self.engine.connect():
            pass  # opened before anything changes

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _before(self, *_: Any) -> None:
        self.started.append(time.monotonic())

    def _after(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.report.ran(time.monotonic() - self.started.pop(), statement)

    def round(self, *, steady: bool = False) -> bool:
        """Every model once."""
        for mapper in self.mappers:
            with self._told():
                self._read(mapper)
            with self._told():
                self._write(mapper)
        self.report.round_done()
        return True

    @contextlib.contextmanager
    def _told(self) -> Any:
        """What fails is reported; a session is never used after that."""
        try:
            yield
        except DBAPIError as error:
            self._failed(error)
        except SQLAlchemyError as error:
            self.report.failed("-----", f"{type(error).__name__}: {error}", "")

    def _failed(self, error: Any) -> None:
        if self.started:
            self.report.ran(time.monotonic() - self.started.pop(), error.statement or "")
        original = error.orig
        state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or "08006"
        said = " ".join(str(original).split("\n")[0].split())
        if state == "0A000" and "cached plan" in said:
            self.report.replanned()
            self.engine.dispose()
        elif state not in _RETRIED:
            self.report.failed(state, said, error.statement or "")

    def _read(self, mapper: Any) -> None:
        """Rows, and what hangs on them: when touched, by a second query, by a join."""
        cls = mapper.class_
        with Session(self.engine) as session:
            found = session.scalars(select(cls).limit(20)).unique().all()
            for one in found[:_RELATED]:
                for relation in mapper.relationships:
                    if relation.lazy not in ("raise", "raise_on_sql", "write_only", "dynamic"):
                        getattr(one, relation.key)
        for relation in mapper.relationships:
            if relation.lazy in ("write_only", "dynamic"):
                continue
            attribute = getattr(cls, relation.key)
            for load in (selectinload, joinedload):
                with Session(self.engine) as session:
                    session.scalars(select(cls).options(load(attribute)).limit(5)).unique().all()

    def _write(self, mapper: Any) -> None:
        values = self._new_values(mapper)
        if values is None:
            return
        cls = mapper.class_
        with Session(self.engine, expire_on_commit=False) as session:
            one = cls()
            for key, value in values.items():
                setattr(one, key, value)
            session.add(one)
            session.commit()
            self._acknowledge(mapper, one)
            session.refresh(one)
            self._same(mapper, one, values, "inserted")
            other = self._sample(session, mapper)
            for key in self._changeable(mapper):
                value = values.get(key) if other is None else getattr(other, key)
                setattr(one, key, value)
                session.commit()
                self._acknowledge(mapper, one)
                session.refresh(one)
                self._same(mapper, one, {key: value}, "updated")
            if self.random.random() < 0.3:
                gone = self._identity(mapper, one)
                session.delete(one)
                session.commit()
                if gone is not None:
                    self.report.acknowledged("drop", self._table(mapper), gone, {})

    # -- values ------------------------------------------------------------------------------

    def _sample(self, session: Any, mapper: Any) -> Any:
        query = select(mapper.class_).offset(self.random.randrange(30)).limit(1)
        return session.scalars(query).unique().first()

    def _new_values(self, mapper: Any) -> dict[str, Any] | None:
        """Attributes of a new row: another's, what must be unique made so; None if that fails."""
        with Session(self.engine) as session:
            sample = self._sample(session, mapper)
            if sample is None:
                sample = session.scalars(select(mapper.class_).limit(1)).unique().first()
            if sample is None:
                self.report.noted(f"{mapper.class_.__name__} has no row to make another from")
                return None
            values: dict[str, Any] = {}
            for attribute, column in self._columns(mapper):
                if column.identity is not None or column.computed is not None:
                    continue
                generated = column.server_default is not None or column.autoincrement is True
                if column.primary_key and (
                    generated or column is mapper.local_table.autoincrement_column
                ):
                    continue
                value = getattr(sample, attribute)
                if self._unique(mapper, column):
                    value = self._vary(column, value)
                    if value is None:
                        name = f"{mapper.class_.__name__}.{attribute}"
                        self.report.noted(
                            f"no new rows of {mapper.class_.__name__}: {name} must be unique, and "
                            f"values of {column.type} are not made up"
                        )
                        return None
                values[attribute] = value
            for attribute, column in self._columns(mapper):
                if attribute not in values:
                    continue
                if column.server_default is not None and self.random.random() < 0.3:
                    del values[attribute]
            return values

    def _columns(self, mapper: Any) -> list[tuple[str, Any]]:
        return [
            (p.key, p.columns[0])
            for p in mapper.column_attrs
            if len(p.columns) == 1 and getattr(p.columns[0], "table", None) is mapper.local_table
        ]

    def _changeable(self, mapper: Any) -> list[str]:
        return [
            key
            for key, column in self._columns(mapper)
            if not column.primary_key
            and column.computed is None
            and column.identity is None
            and not self._unique(mapper, column)
        ]

    def _unique(self, mapper: Any, column: Any) -> bool:
        """Whether a new row needs a value of its own there. Foreign keys keep theirs."""
        if column.unique or any(
            index.unique and column.name in index.columns for index in mapper.local_table.indexes
        ):
            return not column.foreign_keys
        for constraint in mapper.local_table.constraints:
            kind = type(constraint).__name__
            if kind in ("UniqueConstraint", "PrimaryKeyConstraint") and column in list(
                constraint.columns
            ):
                return True
        return False

    def _vary(self, column: Any, sample: Any) -> Any:
        self.number += 1
        try:
            kind = column.type.python_type
        except NotImplementedError:
            return None
        if issubclass(kind, bool) or issubclass(kind, enum.Enum) or column.foreign_keys:
            return None
        if issubclass(kind, int):
            return 1_000_000_000 + self.number % 1_000_000_000
        if issubclass(kind, str):
            made = f"zm{self.number}{sample or ''}"
            return made[: column.type.length] if getattr(column.type, "length", None) else made
        if issubclass(kind, uuid.UUID):
            return uuid.uuid4()
        if issubclass(kind, dt.datetime):
            zone = dt.timezone(dt.timedelta(0)) if getattr(column.type, "timezone", False) else None
            return dt.datetime(2001, 1, 1, tzinfo=zone) + dt.timedelta(milliseconds=self.number)
        if issubclass(kind, decimal.Decimal):
            return decimal.Decimal(self.number % 10_000_000)
        return None

    # -- what became of it -------------------------------------------------------------------

    def _same(self, mapper: Any, one: Any, wanted: dict[str, Any], what: str) -> None:
        """A session sees what it committed: anything else is a lost write."""
        for key, value in wanted.items():
            if getattr(one, key) != value:
                name = f"{mapper.class_.__name__}.{key}"
                self.report.failed("LOST", f"{name} is not what was {what}", "")

    def _table(self, mapper: Any) -> list[str]:
        return [mapper.local_table.schema or "public", mapper.local_table.name]

    def _identity(self, mapper: Any, one: Any) -> list[str] | None:
        values = inspect(one).identity
        if values is None or not all(_plain(v) for v in values):
            return None
        return [str(v) for v in values]

    def _acknowledge(self, mapper: Any, one: Any) -> None:
        """Into the record, before anything is read again: what was set, as far as it is plain text."""
        state = inspect(one)
        key = [str(v) for v in state.identity] if state.identity else None
        if key is None or not all(_plain(v) for v in state.identity):
            return
        values = {
            column.name: str(state.dict[attribute])
            for attribute, column in self._columns(mapper)
            if _plain(state.dict.get(attribute))
        }
        self.report.acknowledged("put", self._table(mapper), key, values)


def _plain(value: Any) -> bool:
    """Whether str() gives what Postgres prints for it."""
    return isinstance(value, (int, str, uuid.UUID)) and not isinstance(value, (bool, enum.Enum))
