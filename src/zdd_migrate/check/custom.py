"""The functions that rules name: ours, and a team's own from the module its configuration names."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

from zdd_migrate.checks import CHECKS
from zdd_migrate.checks.case import Check
from zdd_migrate.config import Config
from zdd_migrate.errors import InputError
from zdd_migrate.rulebook import Rule


def functions(
    rules: Iterable[Rule], config: Config, given: Mapping[str, Check]
) -> dict[str, Check]:
    """Every function that a rule names, by that name. InputError where one is missing."""
    found: dict[str, Check] = {**CHECKS, **given}
    module: ModuleType | None = None
    for rule in rules:
        if rule.check is None or rule.check in found:
            continue
        if config.checks is None:
            raise InputError(
                f"{rule.path}: check {rule.check} is not one of ours; name the file or module that "
                'has it in the configuration (checks = "…")'
            )
        module = module or _load(config.checks, config)
        function = getattr(module, rule.check.replace("-", "_"), None)
        if not callable(function):
            raise InputError(
                f"{rule.path}: {config.checks} has no function {rule.check.replace('-', '_')}"
            )
        found[rule.check] = function
    return found


def _load(named: str, config: Config) -> ModuleType:
    """A module by its file (relative to the configuration) or its importable name."""
    try:
        if not named.endswith(".py"):
            return import_module(named)
        path = config.root / named
        spec = spec_from_file_location(f"zdd_migrate_checks_{path.stem}", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise InputError(f"{config.path}: checks names {named}, which is not there")
        module = module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        raise InputError(f"{config.path}: checks = {named!r} cannot be loaded: {error}") from None
    return module
