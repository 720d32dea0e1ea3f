"""Names of database objects, as Postgres stores them (folded, unquoted)."""

from __future__ import annotations

from typing import NamedTuple

DEFAULT_SCHEMA = "public"


class QName(NamedTuple):
    """A schema-qualified name: `QName("public", "users")`.

    `schema` is None where the source did not say and it has not been resolved against a search
    path yet (see `Schema.resolve`). Both parts are stored as Postgres stores them: unquoted
    identifiers folded to lower case, quoted ones verbatim.
    """

    schema: str | None
    name: str

    def __str__(self) -> str:
        """Display form `schema.name` as the public contract spells relations; not for SQL."""
        return f"{self.schema}.{self.name}" if self.schema is not None else self.name

    def sibling(self, name: str) -> QName:
        """The object called `name` in the same schema."""
        return QName(self.schema, name)
