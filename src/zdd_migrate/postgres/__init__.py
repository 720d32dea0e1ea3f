"""Real Postgres: servers to try things on, catalogs read and compared, locks and logs watched."""
