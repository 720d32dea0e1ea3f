"""SQLAlchemy models as a code version: real sessions, in processes of their own."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from zdd_migrate.model.schema import Schema
from zdd_migrate.postgres.servers import Server
from zdd_migrate.verify.acknowledged import Ledger
from zdd_migrate.verify.own_faults import OwnFault, own_faults, told
from zdd_migrate.verify.recording import Recorder
from zdd_migrate.verify.versions import Session
from zdd_migrate.verify.workers import Crew, Kind, WorkSession

_ORM = Path(__file__).parent / "children" / "orm.py"
_TRIED = 4


@dataclass(slots=True)
class Models:
    """The models of `target` (`module:Base`), imported from `directory` by `python`."""

    name: str
    target: str
    directory: Path
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)
    writers: int = 2
    depth: str = "models"
    ledger: Ledger | None = None
    #: failures where it must work: its own, or of the rows that were made up
    own_faults: frozenset[OwnFault] = frozenset()
    _opened: int = 0

    @property
    def has_work(self) -> bool:
        """There is no base without mapped classes."""
        return True

    def branched(self) -> Models:
        """The same for a copy of the database: its record goes on separately."""
        ledger = self.ledger.branch() if self.ledger is not None else None
        return replace(self, ledger=ledger)

    def prepare(self, server: Server, database: str, schema: Schema, crew: Crew) -> list[str]:
        """Work where it must work; what fails there is no fault of the migration."""
        self.ledger = crew.ledger(f"{self.name}-models")
        session = self._session(server, database, crew, crew.ledger("trying"))
        try:
            for _ in range(_TRIED):
                session.work_once()
            seen = session.take()
            notes = [f"models of the {self.name} code: {note}" for note in session.notes]
        finally:
            session.close()
        self.own_faults = own_faults(seen.errors)
        return notes + told(self.own_faults, f"the models of the {self.name} code")

    def open(self, server: Server, database: str, crew: Crew) -> Session:
        """Processes with the models imported and connected."""
        self.ledger = self.ledger or crew.ledger(f"{self.name}-models")
        return self._session(server, database, crew, self.ledger)

    def _session(self, server: Server, database: str, crew: Crew, ledger: Ledger) -> WorkSession:
        self._opened += 1
        kind = Kind(str(_ORM), self.python, self.directory, tuple(self.environment.items()))
        jobs = [
            {
                "dsn": server.client_dsn(database, f"zdd-{self.name}-m{i}"),
                "pooled": server.pooler is not None,
                "models": self.target,
                "path": [str(self.directory)],
                "seed": self._opened * 10 + i + (5 if self.name == "new" else 0),
            }
            for i in range(self.writers)
        ]
        what = f"versions.{self.name}.models {self.target}: "
        pages = [ledger.page() for _ in jobs]
        return WorkSession(crew, kind, jobs, Recorder(own=self.own_faults), pages, what)
