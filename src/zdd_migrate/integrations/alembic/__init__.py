"""Alembic: its revisions read, plans written as revisions, phases run by `alembic upgrade`."""
