# make demo   see selectkit work on real images (installs into .venv the first time)
# make test   lint, types, layers, tests
PYTHON ?= python3
BIN := .venv/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check
# Passive waiting: a spinning OpenMP pool on a busy machine slows small models by an order of magnitude.
export OMP_WAIT_POLICY = PASSIVE
export GOMP_SPINCOUNT = 0

.PHONY: demo test lint bench clean

demo: .venv/core
	@$(BIN)/selectkit quickstart --out demo

test: lint
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: .venv/dev
	@for script in benchmarks/[a-z]*.py; do \
	  $(BIN)/python -m benchmarks.$$(basename $$script .py) || exit 1; \
	done

.venv/core: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "selectkit needs Python 3.11 or newer, but $(PYTHON) is: $$($(PYTHON) --version 2>&1)."; \
	  echo "Say which one to use, for instance: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "Installing selectkit with torch into .venv: several GB, some minutes, once."
	@$(PYTHON) -m venv .venv
	@$(PIP) --upgrade pip >.venv/install.log 2>&1 || { cat .venv/install.log; exit 1; }
	@$(PIP) --editable . >>.venv/install.log 2>&1 || { tail -40 .venv/install.log; exit 1; }
	@touch $@

.venv/dev: .venv/core pyproject.toml
	@echo "Installing the tools for tests into .venv."
	@$(PIP) --editable '.[dev]' >>.venv/install.log 2>&1 || { tail -40 .venv/install.log; exit 1; }
	@touch $@

clean:
	rm -rf .venv demo build dist *.egg-info
