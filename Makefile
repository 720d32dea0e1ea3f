# Every command of the project. A fresh clone needs make and Python >= 3.11, nothing else:
# .venv is made at the first use, kept up to date, and repaired when it was left half built.

ARGS ?=

# tests run side by side, one more than there are cores, for many wait; JOBS=0: one after the other
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
JOBS ?= $(shell n=$$(($(CORES) + 1)); [ "$$n" -gt 5 ] && n=5; echo $$n)
PYTEST = .venv/bin/python -m pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo demo-deploy test test-fast test-pg test-e2e check clean
.PHONY: format lint types layers packaging venv-demo venv-dev

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: venv-demo ## the whole idea on a small web shop, on a Postgres of its own
	@.venv/bin/zdd-migrate demo $(ARGS)

demo-deploy: venv-demo ## release the shop's rename under load; ARGS="--strategy rolling"
	@.venv/bin/zdd-deploy demo $(ARGS)

test: venv-dev ## the tests; ARGS are pytest's, ARGS=--whole tries every story and planted fault
	$(PYTEST) $(ARGS)

test-fast: venv-dev ## the tests that need no server: seconds
	$(PYTEST) -m "not pg and not e2e" $(ARGS)

test-pg: venv-dev ## the tests on a real Postgres
	$(PYTEST) -m "pg and not e2e" $(ARGS)

test-e2e: venv-dev ## whole releases: HAProxy, Prometheus, Docker, git
	$(PYTEST) -m e2e $(ARGS)

check: format lint types layers packaging ## format, lint, types, layers, packaging; -k goes on after a fault

format: venv-dev
	.venv/bin/ruff format --check .

lint: venv-dev
	.venv/bin/ruff check .

types: venv-dev
	.venv/bin/mypy

layers: venv-dev
	.venv/bin/lint-imports

packaging: venv-dev
	.venv/bin/python -m pytest -q tests/test_packaging.py

clean: ## remove what runs and builds leave behind, but not .venv
	rm -rf build dist demo-output htmlcov .coverage .mypy_cache .ruff_cache .pytest_cache \
	    .hypothesis .import_linter_cache
	find src tests fixtures benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

venv-demo:
	@tools/venv demo

venv-dev:
	@tools/venv dev
