# `make demo` sets everything up and runs the main job; `make test` passes the tests.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test lint notebooks clean

demo: .venv/installed
	$(BIN)/cotlens demo

test: .venv/installed lint
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebooks: .venv/installed
	$(BIN)/python notebooks/execute.py

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

clean:
	rm -rf .venv runs
