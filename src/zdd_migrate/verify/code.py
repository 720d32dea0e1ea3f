"""Both code versions at once, at every depth, and how hard they are tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from zdd_migrate.verify.acknowledged import Ledger
from zdd_migrate.verify.shapes import Shape
from zdd_migrate.verify.versions import CodeVersion, Synthetic


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to try: `rounds` where nothing changes, and `settle` whole ones of every client
    before the first step and after each."""

    rounds: int = 6
    settle: int = 2
    rows: int = 3000
    every_undo: bool = True
    #: whether clients go on after the last step of a phase as well, and between the phases undone on
    #: the longest way back; what comes next looks at the same state anyway
    lingers: bool = True
    #: whether somebody's long transaction stands in the way of each step
    bystander: bool = True
    #: conditions of `hostile.CONDITIONS` to make while steps run
    hostile: tuple[str, ...] = ()

    @classmethod
    def quick(cls) -> Effort:
        """Enough for every push: fewer rounds and rows, and one way back, the longest."""
        return cls(rounds=2, settle=1, rows=300, every_undo=False, lingers=False, bystander=False)


@dataclass(slots=True)
class Code:
    """Both code versions on one lineage of databases."""

    synthetic: dict[str, Synthetic]
    given: dict[str, list[CodeVersion]]

    def of(self, name: str) -> list[CodeVersion]:
        return [self.synthetic[name], *self.given[name]]

    def without_given(self) -> Code:
        """The made-up versions alone, with the same ledgers."""
        return Code(self.synthetic, {name: [] for name in self.given})

    def with_new(self, shapes: Sequence[Shape]) -> Code:
        """The same versions, the new one keeping to these shapes."""
        new = replace(self.synthetic["new"], shapes=shapes)
        return Code({**self.synthetic, "new": new}, self.given)

    def branch(self) -> Code:
        """The same versions for a copy of the database: records go on separately."""
        return Code(
            {name: version.branched() for name, version in self.synthetic.items()},
            {name: [one.branched() for one in ones] for name, ones in self.given.items()},
        )

    def ledgers(self, name: str) -> Iterator[tuple[str, Ledger]]:
        """The records of a version, at every depth that keeps one, by what it is called."""
        for version in self.of(name):
            if version.ledger is not None:
                yield label(version), version.ledger


def label(version: CodeVersion) -> str:
    """How a verdict calls a code version: its name, and its depth unless made up."""
    return version.name if version.depth == "synthetic" else f"{version.name} {version.depth}"
