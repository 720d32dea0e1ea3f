"""Where a flag's value is kept. Setting it is not enough: instances must say that they saw it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Protocol


class FlagStore(Protocol):
    """Keeps values of flags for the instances that read them."""

    def ensure(self, flag: str, value: str) -> None:
        """The flag has this value from now on."""
        ...


class FileFlag:
    """One flag's value in a file that instances look at; replaced whole, never half written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ensure(self, flag: str, value: str) -> None:
        """Write the value; `flag` is the file's."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{flag}-", dir=self.path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(value)
        Path(name).chmod(0o644)
        Path(name).replace(self.path)
