"""Platforms: one folder each, with its line in `DRIVERS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zdd_deploy.drivers.local.driver import LocalDriver

if TYPE_CHECKING:
    from zdd_deploy.config import Settings

DRIVERS: dict[str, Callable[[Settings, Callable[[str], None]], LocalDriver]] = {
    "local": lambda settings, say: LocalDriver(settings.local, say),
}
