# Everything runs from here; `make` alone lists the targets.

# The first interpreter that is new enough, unless PY is given.
PY ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
PIP := $(PYTHON) -m pip --disable-pip-version-check
# Knobs: make test WORKERS=8 PYTEST_ARGS='-k store'; make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKERS ?= 2
PYTEST_ARGS ?=
TORCH_SPEC ?= torch>=2.6
TORCH_INDEX ?=
ARGS ?=
PYTEST := $(PYTHON) -m pytest -q -n $(WORKERS) --dist loadfile
SOURCES := $(wildcard dreamdb tests bench examples scripts)

unexport PYTHONPATH
unexport PYTHONHOME

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-fast test-deep check fmt lint types layers sizes bench dist-check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.test ## make .venv with all that the tests need

demo: $(VENV)/.demo ## run the demo on real data (ARGS='--help' for its options)
	$(PYTHON) examples/demo.py $(ARGS)

test: $(VENV)/.test ## run all tests but the deep ones
	$(PYTEST) -m 'not deep' --hypothesis-profile=ci $(PYTEST_ARGS)

test-fast: $(VENV)/.test ## run the tests that take seconds
	$(PYTEST) -m 'not slow and not deep and not s3' $(PYTEST_ARGS)

test-deep: $(VENV)/.test ## run everything, with long random searches
	$(PYTEST) --hypothesis-profile=deep --timeout=3600 $(PYTEST_ARGS)

check: lint types layers test-fast ## format, lint, types, layers, fast tests: about a minute

fmt: $(VENV)/.dev ## format the sources and fix what can be fixed
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lint: $(VENV)/.dev ## check format and lint rules
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

types: $(VENV)/.dev ## check types, strictly
	$(BIN)/mypy

layers: $(VENV)/.test ## check layers, sizes, exports and docstrings
	$(PYTHON) -m pytest -q tests/arch

sizes: ## print lines per module
	$(PY) scripts/sizes.py

bench: $(VENV)/.bench ## measure against Lance, Parquet and memory (ARGS='--quick')
	$(PYTHON) -m bench.run $(ARGS)

dist-check: $(VENV)/.test ## build the wheel and try it away from the sources
	rm -rf build/dist-check dist
	$(PIP) wheel -q --no-deps -w dist .
	$(PIP) install -q --no-deps --target build/dist-check dist/dreamdb-*.whl
	test -f build/dist-check/dreamdb/py.typed
	cd build/dist-check && PYTHONPATH=. $(abspath $(PYTHON)) -c \
		"import dreamdb, pathlib; assert pathlib.Path(dreamdb.__file__).parts[-3] == 'dist-check'"
	cd build/dist-check && PYTHONPATH=. $(abspath $(PYTHON)) bin/dreamdb --help >/dev/null
	cd build/dist-check && PYTHONPATH=. $(abspath $(PYTHON)) bin/dreamdb-cli --help >/dev/null

clean: ## remove what was built; keep .venv
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov bench-data demo-space
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------- the environment, step by step
# Each stamp is written when its step has succeeded, so an interrupted set-up continues.

$(VENV)/.pip:
	@test -n "$(PY)" || { echo "no Python 3.11 or newer found; name one: make PY=/path/to/python3.11" >&2; exit 1; }
	$(PY) -m venv $(VENV)
	$(PIP) install -q -U pip || echo "pip was not upgraded; going on with the one there is"
	@touch $@

# torch comes first and alone: resolved with the rest it may arrive as a build of gigabytes.
$(VENV)/.torch: $(VENV)/.pip scripts/install_torch.sh
	sh scripts/install_torch.sh "$(PYTHON)" "$(TORCH_SPEC)" "$(TORCH_INDEX)"
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(PIP) install -q -e '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml
	$(PIP) install -q -e '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(PIP) install -q -e '.[test,dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.torch pyproject.toml
	$(PIP) install -q -e '.[bench]'
	@touch $@
