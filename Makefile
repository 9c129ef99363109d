# `make demo` sets everything up and runs the main job; `make test` runs the default tests.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
# What is installed beside the package; CI adds what the documentation needs.
EXTRAS ?= dev
# Python compiles a module when it is first imported: three in four of those that are installed never are.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# One process a core; each test process uses one thread of PyTorch (tests/conftest.py).
WORKERS ?= logical
# Slow tests wait for browsers, servers and processes, which leaves a quarter of two cores idle.
SLOW_WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
# Packages whose shape annotations `make test-shapes` checks at run time; tests of bad input look at messages instead.
SHAPED := interp.reasoners,interp.activations,interp.decoders.logit_lens,interp.organisms.training.train,probes.solvers
export OMP_WAIT_POLICY := PASSIVE
# Otherwise each process that the tests start compiles every module again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow test-shapes test-all coverage lint notebooks docs clean

demo: .venv/installed
	$(BIN)/cotlens demo

# The time that the tests print counts from here, so it includes the linters.
test: .venv/installed
	started=$$(date +%s) && $(MAKE) --no-print-directory lint && TESTS_STARTED=$$started $(PYTEST) $(PYTEST_OPTIONS)

test-slow: .venv/installed
	$(BIN)/python -m pytest -n $(SLOW_WORKERS) --dist worksteal -m slow

test-shapes: .venv/installed
	$(PYTEST) --jaxtyping-packages=$(SHAPED),beartype.beartype \
		tests/interp/reasoners tests/interp/activations/test_store.py tests/interp/activations/test_host_copies.py \
		tests/interp/organisms/training tests/probes/solvers

test-all: test test-slow test-shapes

# The default tier once more, and how much of each public name it executed, least covered first.
coverage: .venv/installed
	$(PYTEST) -p tests.public_coverage

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2

notebooks: .venv/installed
	$(BIN)/python notebooks/execute.py

# The documentation site in site/; a warning is an error.
docs: .venv/installed
	@$(BIN)/python -c "import mkdocs, mkdocstrings, material" 2>/dev/null || $(PIP) --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) "$(TORCH)"
	$(PIP) --editable ".[$(EXTRAS)]"
	@touch $@

clean:
	rm -rf .venv runs
