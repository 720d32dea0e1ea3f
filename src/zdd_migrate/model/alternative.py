"""One way to do what a migration asks, among several, and what it costs on this table."""

from __future__ import annotations

from dataclasses import dataclass

from zdd_migrate.model.cost import in_bytes, in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A way that is planned (`chosen`), or that `option` makes the plan take.

    `about` is what is changed, `what` the way in plain words. `rows` and `bytes` are those written
    anew, `wal_bytes` and `seconds` what that comes to, all None where nobody measured the table;
    `each_write` is what every later write costs more, `releases` the deploys it takes in all.
    """

    about: str
    via: str
    option: str
    what: str
    chosen: bool
    copies: bool = False
    rows: int | None = None
    bytes: int | None = None
    wal_bytes: int | None = None
    seconds: float | None = None
    each_write: str = "nothing more"
    releases: int = 1

    @property
    def cost(self) -> str:
        """What is written anew and how long it takes, or what was assumed instead."""
        if not self.copies:
            return "no row is written anew"
        if self.bytes is None or self.wal_bytes is None or self.seconds is None:
            return (
                "every row is written anew; how many nobody measured, so read it as an hour rather "
                "than a second (--schema with a database URL or a snapshot says it)"
            )
        rows = f"{self.rows} rows, " if self.rows is not None else ""
        return (
            f"writes {rows}{in_bytes(self.bytes)} anew, roughly {in_bytes(self.wal_bytes)} of WAL, "
            f"{in_words(self.seconds)}"
        )

    @property
    def text(self) -> str:
        """All of it in a line."""
        deploys = f"{self.releases} deploy{'' if self.releases == 1 else 's'}"
        how = "planned" if self.chosen else self.option
        return (
            f"{self.about} by way of {self.via} ({how}): {self.what}; {self.cost}; each later write "
            f"costs {self.each_write}; {deploys}"
        )
