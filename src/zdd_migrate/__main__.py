"""`python -m zdd_migrate`."""

from zdd_migrate.cli import main

main()
