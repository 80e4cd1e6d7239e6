# Each target is enough by itself on a machine with Python 3.11 or later, git and make:
# it makes .venv, installs the core and the plugins into it, and does its work there.
#
#   make test ARGS="-k isolation"      arguments for pytest
#   make PYTHON=python3.12 demo        another interpreter, for a new .venv

PYTHON ?= python3
JOBS ?= 3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := sklearn lightgbm xgboost torch
# Brings matplotlib and plotly along, which the demonstration and the benchmarks do not need.
MORE_PLUGINS := catboost
BENCHMARKS := isolation.py "isolation.py --store" paper.py overhead.py predict.py storage.py scale.py ledger_growth.py \
    accuracy.py bands.py planner.py
PROJECTS := pyproject.toml $(PLUGINS:%=plugins/unlearnkit-%/pyproject.toml) constraints.txt
MORE_PROJECTS := $(MORE_PLUGINS:%=plugins/unlearnkit-%/pyproject.toml)
# Modules are compiled when they are first imported: most never are, and all of them take more than a minute.
# What was compiled has to be kept, or each of the hundreds of processes that the tests start does it all again.
unexport PYTHONDONTWRITEBYTECODE
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

# Tests on real data run where it lies beside the checkout, and are skipped elsewhere.
ifneq ($(wildcard ../shared/data/.),)
export UNLEARNKIT_DATA ?= $(abspath ../shared/data)
endif

# Several processes test at once: threads of their own would be in each other's way.
test test-crash: export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-whole test-crash lint bench docs clean

help:
	@echo "make demo        forgetting shown on real data, in all four frameworks"
	@echo "make test        the tests"
	@echo "make test-whole  the tests with far more random data, histories, kills and models: hours"
	@echo "make test-crash  a store whose process is killed, or whose disk fails, at every durable operation"
	@echo "make lint        style, types, and who imports whom"
	@echo "make bench       the benchmarks"
	@echo "make docs        the documentation as a site, in build/site"
	@echo "make clean       remove .venv and all caches"

demo: $(VENV)/.runtime
	@$(BIN)/unlearnkit demo $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

test-whole: export UNLEARNKIT_CRASH := whole
test-whole: export UNLEARNKIT_CONFORMANCE := whole
test-whole: export UNLEARNKIT_TRIES := 200
test-whole: export UNLEARNKIT_HISTORIES := 2000
test-whole: test

# Some of it is in the tests too. It says how many different points it tried.
test-crash: $(VENV)/.test
	UNLEARNKIT_CRASH=whole $(BIN)/python -m pytest tests/crash -n $(JOBS) --dist loadgroup $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy unlearnkit $(foreach name,$(PLUGINS) $(MORE_PLUGINS),plugins/unlearnkit-$(name)/unlearnkit_$(name))
	$(BIN)/lint-imports

bench: $(VENV)/.bench
	@set -e; for call in $(BENCHMARKS); do echo "== $$call"; $(BIN)/python benchmarks/$$call $(ARGS); done

docs: $(VENV)/.docs
	$(BIN)/python docs/tools/pages.py build/pages
	$(BIN)/zensical build --clean --strict
	$(BIN)/python docs/tools/links.py build/site

clean:
	rm -rf $(VENV) build/pages build/site .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit("unlearnkit needs Python 3.11 or later; try: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.python $(PROJECTS)
	@echo "Installing unlearnkit, its plugins and four frameworks into $(VENV): some minutes the first time."
	$(PIP_INSTALL) -e '.[pandas,store]' $(PLUGINS:%=-e plugins/unlearnkit-%)
	@touch $@

$(VENV)/.bench: $(VENV)/.runtime
	$(PIP_INSTALL) -e '.[bench]'
	@touch $@

$(VENV)/.docs: $(VENV)/.runtime
	$(PIP_INSTALL) -e '.[docs]'
	@touch $@

$(VENV)/.test: $(VENV)/.runtime $(MORE_PROJECTS)
	$(PIP_INSTALL) -e '.[test]' $(MORE_PLUGINS:%=-e plugins/unlearnkit-%)
	@touch $@

$(VENV)/.lint: $(VENV)/.runtime $(MORE_PROJECTS)
	$(PIP_INSTALL) -e '.[lint]' $(MORE_PLUGINS:%=-e plugins/unlearnkit-%)
	@touch $@ $(VENV)/.test  # of which all is part of it
