"""Servers to try things on: your own by its URL, an installed one, the embedded one, or Docker."""

from __future__ import annotations

import copy
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from zdd_migrate.errors import EnvironmentFailedError, InputError, NoServerError
from zdd_migrate.postgres import binaries
from zdd_migrate.postgres.cluster import SUPERUSER, run_cluster
from zdd_migrate.postgres.ownership import LIMIT, Owner

if TYPE_CHECKING:
    from zdd_migrate.postgres.pooler import Pooler

C = TypeVar("C", bound=psycopg.Connection[TupleRow])
URL_VARIABLE = "ZDD_DATABASE_URL"


class Server:
    """A Postgres server with databases of our own on it.

    `provider` is embedded, system, dsn or testcontainers; `version` as `SHOW server_version`
    gives it (18.4); `log_path` the server's log where we own it, else None.
    """

    def __init__(
        self,
        provider: str,
        parameters: Mapping[str, str],
        log_path: Path | None,
        near: Mapping[str, str | None] | None = None,
    ) -> None:
        """`near` is how ourselves get there, on the same machine: what differs, None for nothing."""
        self.provider = provider
        self._near = dict(near or {})
        self.log_path = log_path
        #: schemas that its connections look into before all others
        self.first_schemas: tuple[str, ...] = ()
        self._parameters = dict(parameters)
        self._made: list[str] = []
        self._owner: Owner | None = None
        #: databases of runs that were killed, found here and dropped
        self.abandoned: list[str] = []
        #: what clients go through, where they do not come straight here
        self.pooler: Pooler | None = None
        with self.connect() as connection:
            shown = connection.execute("SHOW server_version").fetchone()
        assert shown is not None
        self.version = str(shown[0]).split()[0]

    @property
    def major(self) -> int:
        """18 of 18.4."""
        match = re.match(r"\d+", self.version)
        assert match is not None
        return int(match[0])

    def dsn(self, database: str | None = None, application_name: str | None = None) -> str:
        """A URL for a database of this server (the maintenance database by default)."""
        named = database or self._parameters.get("dbname", "postgres")
        return self.url({**self._parameters, "dbname": named}, application_name)

    def client_dsn(self, database: str, application_name: str) -> str:
        """The same for whoever works there as an application does: through the pooler, if any."""
        if self.pooler is not None:
            return self.pooler.dsn(database, application_name)
        return self.dsn(database, application_name)

    def _near_dsn(self, database: str | None, application_name: str) -> str:
        """The shortest way there, for ourselves."""
        named = database or self._parameters.get("dbname", "postgres")
        wanted = {**self._parameters, **self._near, "dbname": named}
        return self.url({k: v for k, v in wanted.items() if v is not None}, application_name)

    def made_up_dsn(self, database: str, application_name: str) -> str:
        """The same for our own processes that work there as an application does."""
        if self.pooler is not None:
            return self.pooler.dsn(database, application_name)
        return self._near_dsn(database, application_name)

    @staticmethod
    def url(given: Mapping[str, str], application_name: str | None = None) -> str:
        """Connection parameters, the database among them, as a URL."""
        parameters = dict(given)
        user = quote(parameters.pop("user", SUPERUSER), safe="")
        password = parameters.pop("password", None)
        host = parameters.pop("host", "")
        port = parameters.pop("port", "5432")
        name = parameters.pop("dbname")
        if application_name is not None:
            parameters["application_name"] = application_name
        secret = f":{quote(password, safe='')}" if password is not None else ""
        if host.startswith("/"):
            parameters["host"] = host
            host = ""
        query = f"?{urlencode(parameters, quote_via=quote)}" if parameters else ""
        where = f"{host}:{port}" if host else (f":{port}" if "host" in parameters else "")
        return f"postgresql://{user}{secret}@{where}/{quote(name, safe='')}{query}"

    def looking_into(self, schemas: Sequence[str]) -> Server:
        """This server for connections that look into some schemas before those they are set to."""
        other = copy.copy(self)
        other.first_schemas = tuple(schemas)
        with self.connect() as connection:
            shown = connection.execute("SHOW search_path").fetchone()
        path = ",".join((*schemas, str(shown[0]).replace(" ", "") if shown else "public"))
        given = f"{self._parameters.get('options', '')} -c search_path={path}".strip()
        other._parameters = {**self._parameters, "options": given}  # noqa: SLF001 - its own
        return other

    def connect(
        self,
        database: str | None = None,
        *,
        autocommit: bool = True,
        application_name: str = "zdd-migrate",
    ) -> psycopg.Connection:
        """A connection to a database; EnvironmentFailedError when it cannot be had."""
        return self.connect_as(
            psycopg.Connection, database, autocommit=autocommit, application_name=application_name
        )

    def connect_as(
        self,
        kind: type[C],
        database: str | None = None,
        *,
        autocommit: bool = True,
        application_name: str = "zdd-migrate",
    ) -> C:
        """The same, of a kind of one's own."""
        try:
            return kind.connect(
                self._near_dsn(database, application_name),
                autocommit=autocommit,
                connect_timeout=10,
            )
        except psycopg.Error as error:
            raise EnvironmentFailedError(
                f"{self.provider} Postgres cannot be reached: {_one_line(error)}"
            ) from None

    def create_database(self, name: str | None = None, template: str | None = None) -> str:
        """Make a database (from a template, which nobody may be connected to) and say its name."""
        owner = self._owned() if self.provider == "dsn" and name is None else None
        made = name or (owner.name() if owner is not None else f"zdd_{secrets.token_hex(5)}")
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(made))
        if owner is not None:
            statement += sql.SQL(" CONNECTION LIMIT {}").format(sql.Literal(LIMIT))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
            if self.major >= 15:
                statement += sql.SQL(" STRATEGY FILE_COPY")
        with ExitStack() as stack:
            if self.pooler is not None and template is not None:
                stack.enter_context(self.pooler.let_go(template))
            connection = stack.enter_context(self.connect())
            try:
                connection.execute(statement)
            except psycopg.errors.InsufficientPrivilege:
                raise EnvironmentFailedError(
                    "this role may not create scratch databases: GRANT it CREATEDB, or use another "
                    "server (--postgres embedded)"
                ) from None
            except psycopg.Error as error:
                raise EnvironmentFailedError(
                    f"a scratch database cannot be made: {_one_line(error)}"
                ) from None
        self._made.append(made)
        if owner is not None:
            owner.mark(made)
        return made

    def _owned(self) -> Owner:
        """Who makes databases on a server that others use too; what the dead left goes first."""
        if self._owner is None:
            self._owner = Owner(self.connect(application_name="zdd-migrate owner"))
            self.abandoned = self._owner.clear_away()
        return self._owner

    def let_go(self) -> None:
        """Drop what is left of ours, and hold nothing on the server any more."""
        self.drop_made()
        if self._owner is not None:
            self._owner.close()
            self._owner = None

    def drop_database(self, name: str) -> None:
        """Drop a database that we made, whoever is connected to it; never fails when it is gone."""
        with self.connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )
        if name in self._made:
            self._made.remove(name)

    @contextmanager
    def scratch_database(self, template: str | None = None) -> Iterator[str]:
        """A database for the length of a block; yields its name."""
        name = self.create_database(template=template)
        try:
            yield name
        finally:
            self.drop_database(name)

    @contextmanager
    def cleared(self) -> Iterator[None]:
        """Drop at the end of a block what was made in it: autovacuum visits every database."""
        before = frozenset(self._made)
        try:
            yield
        finally:
            self.drop_made(but=before)

    def drop_made(self, but: frozenset[str] = frozenset()) -> None:
        """Drop every database of ours that is left."""
        for name in [made for made in self._made if made not in but]:
            try:
                self.drop_database(name)
            except (psycopg.Error, EnvironmentFailedError):
                continue


Starter = Callable[[int | None, Mapping[str, str]], AbstractContextManager[Server]]


@contextmanager
def server(
    spec: str = "auto", *, major: int | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server for the length of a block. `spec`: auto, embedded, system, testcontainers or a URL.

    auto takes the URL in ZDD_DATABASE_URL, else installed binaries, else the embedded wheel, else
    Docker. `major` asks for one major version; NoServerError says who would have it. Databases
    made on the server are dropped at the end; a server of our own is stopped.
    """
    with _start(spec, major, settings or {}) as started:
        try:
            yield started
        finally:
            if started.provider == "dsn":
                started.let_go()


def version_of(spec: str = "auto", *, major: int | None = None) -> str | None:
    """Which server `server` would give: provider and version. None without starting it."""
    if spec == "auto" and os.environ.get(URL_VARIABLE):
        spec = os.environ[URL_VARIABLE]
    if "=" in spec or "://" in spec:
        with _given(spec, major) as found:
            return f"{found.dsn()} {found.version}"
    places = {"system": binaries.system, "embedded": binaries.embedded}
    for name in ("system", "embedded") if spec == "auto" else (spec,):
        installed = _of_major(places[name](), major) if name in places else []
        if installed:
            return f"{name} {installed[0].directory} {installed[0].version}"
    return None


def _start(
    spec: str, major: int | None, settings: Mapping[str, str]
) -> AbstractContextManager[Server]:
    if spec == "auto":
        return _auto(major, settings)
    if spec in PROVIDERS:
        return PROVIDERS[spec](major, settings)
    if "=" in spec or "://" in spec:
        return _given(spec, major)
    raise InputError(
        f"--postgres {spec}: choose auto, {', '.join(PROVIDERS)}, or give a database URL"
    )


def _auto(major: int | None, settings: Mapping[str, str]) -> AbstractContextManager[Server]:
    url = os.environ.get(URL_VARIABLE)
    if url:
        return _given(url, major)
    if _of_major(binaries.system(), major):
        return _system(major, settings)
    if _of_major(binaries.embedded(), major):
        return _embedded(major, settings)
    if major is not None and (binaries.system() or binaries.embedded()):
        raise NoServerError(_who_has(major))
    return _container(major, settings)


def _of_major(found: list[binaries.Binaries], major: int | None) -> list[binaries.Binaries]:
    return [b for b in found if major is None or b.major == major]


def _who_has(major: int) -> str:
    have = [f"{b.provider} {b.major}" for b in (*binaries.system(), *binaries.embedded())]
    return (
        f"no Postgres {major} here (there is {', '.join(have) or 'none'}): install its binaries, "
        "pip install 'zdd-migrate[embedded]' for 18 and 16, or use --postgres testcontainers"
    )


@contextmanager
def _local(
    found: list[binaries.Binaries], major: int | None, settings: Mapping[str, str], missing: str
) -> Iterator[Server]:
    wanted = _of_major(found, major)
    if not wanted:
        raise NoServerError(_who_has(major) if found and major is not None else missing)
    with run_cluster(wanted[0], settings) as running:
        parameters = {
            "host": "127.0.0.1",
            "port": str(running.port),
            "user": SUPERUSER,
            "password": running.password,
            "dbname": "postgres",
        }
        near = {"host": str(running.socket_directory), "password": None}
        yield Server(wanted[0].provider, parameters, running.log, near)


def _system(major: int | None, settings: Mapping[str, str]) -> AbstractContextManager[Server]:
    missing = "no installed Postgres server (initdb, postgres) was found; try --postgres embedded"
    return _local(binaries.system(), major, settings, missing)


def _embedded(major: int | None, settings: Mapping[str, str]) -> AbstractContextManager[Server]:
    missing = "the embedded Postgres is not installed: pip install 'zdd-migrate[embedded]'"
    return _local(binaries.embedded(), major, settings, missing)


def _container(major: int | None, settings: Mapping[str, str]) -> AbstractContextManager[Server]:
    from zdd_migrate.postgres.container import run_container

    return run_container(Server, major, settings)


@contextmanager
def _given(dsn: str, major: int | None) -> Iterator[Server]:
    try:
        parameters = {k: str(v) for k, v in conninfo_to_dict(dsn).items() if v is not None}
    except psycopg.ProgrammingError as error:
        raise InputError(f"the database URL cannot be read: {_one_line(error)}") from None
    found = Server("dsn", parameters, None)
    if major is not None and found.major != major:
        raise NoServerError(
            f"the given server is Postgres {found.major}, not {major}: {_who_has(major)}"
        )
    yield found


PROVIDERS: dict[str, Starter] = {
    "embedded": _embedded,
    "system": _system,
    "testcontainers": _container,
}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
