"""Schema migrations for Postgres that never break the version still running."""

__version__ = "0.1.0"
