# The two commands for a newcomer: `make demo` and `make test`. Both make the virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := demo
# Two thirds of the jobs' time would go into attacks by trigger patterns.
FEWER_ATTACKS := --param patterns=8 --param victims=20 --param report_victims=40
# Where torch comes from; empty: the index that pip is set to. Linux gets CUDA from an ordinary one; without it:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
FROM := $(if $(TORCH_INDEX), --index-url $(TORCH_INDEX))
export UV_NO_CONFIG := 1
# Where this is set, every process that tests start would compile all it imports.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test soak check bench clean bundled docs notebook help

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

# torch first and alone, so that it may come from another index than everything else, what it needs included.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "attattr_batch needs Python >= 3.11, got $$($(PYTHON) --version); set PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torch -c constraints.txt$(FROM)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]' -c constraints.txt
	touch $@

demo: $(STAMP)  ## attribute the bundled data, run every experiment, write the report, say where it is
	mkdir -p $(DEMO)
	$(BIN)/attattr run --db $(DEMO)/attattr.duckdb
	$(BIN)/attattr jobs run --db $(DEMO)/attattr.duckdb $(FEWER_ATTACKS)
	$(BIN)/attattr verify --db $(DEMO)/attattr.duckdb
	$(BIN)/attattr report --db $(DEMO)/attattr.duckdb -o $(DEMO)/report.html

test: $(STAMP)  ## every test that needs no GPU
	$(BIN)/python -m pytest -m 'not gpu' -n auto --dist loadfile --no-loadscope-reorder --durations 25

soak: $(STAMP)  ## disturb runs, jobs and stores in every way, 200 kills and more (ATTATTR_SOAK_SECONDS bounds the kills)
	$(BIN)/python tests/soak.py

check: $(STAMP)  ## lint, format, types, generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/documents.py --check

bundled: $(STAMP)  ## make the bundled data and models again
	$(BIN)/python tools/make_bundled.py

docs: $(STAMP)  ## write the generated documents
	$(BIN)/python tools/documents.py --write

notebook: $(STAMP)  ## execute docs/example.ipynb again
	$(BIN)/python tools/run_notebook.py docs/example.ipynb

bench: $(STAMP)  ## run every benchmark; with ATTATTR_REAL_DATA writes benchmarks/results and BENCHMARKS.md (two hours)
	$(BIN)/python benchmarks/main_job.py --task sst2 --task rte --task mrpc
	$(BIN)/python benchmarks/main_job.py --task mnli --limit 1000
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/scheduler.py
	$(BIN)/python benchmarks/scheduler.py --scale
	$(BIN)/python benchmarks/readers.py
	$(BIN)/python benchmarks/store.py --large
	$(BIN)/python benchmarks/dashboard.py
	$(BIN)/python benchmarks/load.py

clean:  ## remove the environment and everything made
	rm -rf $(VENV) $(DEMO) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
