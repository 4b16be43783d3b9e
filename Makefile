# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-lowest lint bench schemas clean

demo: $(READY)
	PATH="$(BIN):$$PATH" sh examples/demo.sh demo

# Tests that learn must pass from any seed: `pytest -k learn --seeds 10 --seed-offset 1` tries ten others.
test: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1 PYTHONWARNDEFAULTENCODING=1 $(BIN)/python -m pytest -n auto --dist worksteal

# The suite with the lowest versions that pyproject.toml accepts, in an environment of its own.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[dev]'
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n auto --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=plugins $(BIN)/lint-imports
	$(BIN)/python -m data_schemas --check

bench: $(READY)
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

schemas: $(READY)
	$(BIN)/python -m data_schemas

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('medaug needs Python 3.11 or later; set PYTHON=...')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .venv-lowest demo
