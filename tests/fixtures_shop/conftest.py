"""A scratch database that holds the shop as it runs today."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

STORY = Path(__file__).resolve().parents[2] / "fixtures" / "shop"


@pytest.fixture
def shop_database(database: str) -> str:
    """Address of a database with before.sql and seed.sql in it."""
    with psycopg.connect(database, autocommit=True) as connection:
        for name in ("before.sql", "seed.sql"):
            connection.execute((STORY / name).read_bytes())
    return database


@pytest.fixture
def connection(shop_database: str) -> Iterator[psycopg.Connection]:
    """An autocommit connection to the shop's database."""
    with psycopg.connect(shop_database, autocommit=True) as connection:
        yield connection
