# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo demo-from-scratch test test-learning test-thorough test-lowest lint site schemas clean

demo: $(READY)
	PATH="$(BIN):$$PATH" sh examples/demo.sh demo

# The same with generators that are trained from nothing, in another folder.
demo-from-scratch: $(READY)
	PATH="$(BIN):$$PATH" sh examples/demo.sh demo-from-scratch --from-scratch

test: $(READY)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1 PYTHONWARNDEFAULTENCODING=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# The tests that learn, from ten other seeds, with more threads, and with the kernels of other processors.
test-learning: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/plugins --seeds 10 --seed-offset 1
	for threads in 2 4; do OMP_NUM_THREADS=$$threads $(BIN)/python -m pytest tests/plugins --seeds 2 || exit 1; done
	for kernels in default avx2; do ATEN_CPU_CAPABILITY=$$kernels $(BIN)/python -m pytest tests/plugins --seeds 2 || exit 1; done

# The tests of properties, with three times as many examples.
test-thorough: $(READY)
	MEDAUG_THOROUGH=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -m hypothesis

# The suite with the lowest versions that pyproject.toml accepts, in an environment of its own.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[dev]'
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n auto --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=plugins $(BIN)/lint-imports
	$(BIN)/python -m data_schemas --check

# The documentation as a site, build/site/index.html; a link that leads nowhere stops it.
site: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

schemas: $(READY)
	$(BIN)/python -m data_schemas

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('medaug needs Python 3.11 or later; set PYTHON=...')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .venv-lowest demo demo-from-scratch build
