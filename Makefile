# make demo: environment, installation, main job. make test: environment, checks, tests. make docs:
# environment, documentation. All work from a fresh clone with python3 (>= 3.10) and PyPI, and
# nothing done before.
#
#   PYTHON       the Python that creates the environment                      (python3)
#   VENV         where the environment is                                     (.venv)
#   PIP_ARGS     for pip, e.g. --extra-index-url https://download.pytorch.org/whl/cpu
#   DEMO_ARGS    for `easyseg demo`, e.g. DEMO_ARGS="--data ../shared/data/skin_isic"
#   PYTEST_ARGS  for pytest, e.g. PYTEST_ARGS="tests/plan -x"
#   WORKERS      processes that test side by side, 0 for none of them           (2)

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
DEMO_ARGS ?=
PYTEST_ARGS ?=
WORKERS ?= 2

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
# The tests of a file share what was fitted for them. In the order of the folders the doctests, which
# are short, come last, so that no process waits long for another one.
DIST := --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo docs test test-gpu lint clean

help:
	@echo "make demo      fit, score and draw on a generated set (creates $(VENV) first)"
	@echo "make docs      the documentation in site/, warnings are errors"
	@echo "make test      lint, types and tests"
	@echo "make test-gpu  the tests that need CUDA"
	@echo "make lint      ruff and mypy"
	@echo "make clean     remove $(VENV) and the caches"

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'easyseg needs Python 3.10 or newer: make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)

# Installed anew when pyproject.toml changes; the stamps keep repeated calls fast.
$(VENV)/.easyseg: $(VENV)/pyvenv.cfg pyproject.toml
	$(PIP) install $(PIP_ARGS) -e .
	@touch $@

$(VENV)/.easyseg-dev: $(VENV)/pyvenv.cfg pyproject.toml
	$(PIP) install $(PIP_ARGS) -e ".[dev]"
	@touch $@ $(VENV)/.easyseg

demo: $(VENV)/.easyseg
	$(BIN)/easyseg demo $(DEMO_ARGS)

$(VENV)/.easyseg-docs: $(VENV)/pyvenv.cfg pyproject.toml
	$(PIP) install $(PIP_ARGS) -e ".[docs]"
	@touch $@ $(VENV)/.easyseg

docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/.easyseg-docs
	$(BIN)/python -m mkdocs build --strict
	@echo "the documentation is in site/index.html"

lint: $(VENV)/.easyseg-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) $(DIST) $(PYTEST_ARGS)

test-gpu: $(VENV)/.easyseg-dev
	$(BIN)/python -m pytest -m gpu $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site
