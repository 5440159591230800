# Verbs of the project. Each one makes what it needs: a virtual environment in .venv with the versions of constraints.txt.

SHELL := /bin/bash
.SHELLFLAGS := -e -u -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test quick check format bench parity docs clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UPSTREAM := .venv-upstream
PIP := -m pip --disable-pip-version-check install --progress-bar off -c constraints.txt
WORKERS ?= 2

# one thread per process: several processes share the machine, and threads that wait for each other cost more than they give
export OMP_NUM_THREADS ?= 1
export MPLBACKEND := Agg
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

help:  ## what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

demo: $(VENV)/demo.stamp  ## explain a photo with a pretrained network; pictures and a page in demo-output/
	OMP_NUM_THREADS=$$(( ($$(getconf _NPROCESSORS_ONLN) + 1) / 2 )) $(BIN)/captum demo --out demo-output

test: $(VENV)/dev.stamp  ## every test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

quick: $(VENV)/dev.stamp  ## the tests of single files, in less than three minutes: no laws, no oracles
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow" tests/unit tests/golden tests/api tests/architecture

check: $(VENV)/dev.stamp  ## format, lint, strict types, the rules of the house, doctests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/architecture tests/api
	$(BIN)/python -m pytest -q --doctest-modules --doctest-continue-on-failure src

format: $(VENV)/dev.stamp  ## put the code into the form that `check` asks for
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/dev.stamp  ## speed and memory against upstream (in .venv-upstream) and against bare torch
	env -u OMP_NUM_THREADS $(BIN)/python -m benchmarks.bench

parity: $(VENV)/dev.stamp  ## the same cases in upstream (in .venv-upstream) and here; the largest difference per method
	$(BIN)/python -m benchmarks.parity

docs: $(VENV)/dev.stamp  ## docs/reference from the docstrings; examples run and links resolve
	$(BIN)/python docs/build.py

clean:  ## forget what was made
	rm -rf $(VENV) $(UPSTREAM) demo-output bench-output build dist .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or later is needed, and $(PYTHON) is older. Name another: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# the build back end first and from the same pins, so that nothing is resolved outside constraints.txt
$(VENV)/build.stamp: constraints.txt | $(VENV)/bin/python
	$(BIN)/python $(PIP) hatchling editables
	@touch $@

$(VENV)/demo.stamp: pyproject.toml constraints.txt $(VENV)/build.stamp
	$(BIN)/python $(PIP) --no-build-isolation -e '.[demo]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt $(VENV)/build.stamp
	$(BIN)/python $(PIP) --no-build-isolation -e '.[dev]'
	@touch $@ $(VENV)/demo.stamp
