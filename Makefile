# Deckwatch. `make help` lists the targets.

# PYTHON is the interpreter, VENV the virtual environment. To use several Python versions, give each its own environment:
# make test PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The Python version that the environment must have: PYTHON if given, otherwise the version it was created with.
wanted := $(if $(filter file,$(origin PYTHON)),$(BIN)/python,$(PYTHON))
version := $(shell $(wanted) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
ready := $(if $(version),$(wildcard $(BIN)/pip$(version)))
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.DEFAULT_GOAL := help

$(VENV)/.installed: pyproject.toml constraints.txt $(if $(ready),,rebuild)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Deckwatch requires Python 3.11 or later. Choose an interpreter: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -n "$(ready)" || $(PYTHON) -m venv $(if $(wildcard $(VENV)/pyvenv.cfg),--clear) $(VENV) || { echo "$(PYTHON) cannot create virtual environments. On Debian and Ubuntu, run: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install -q pip
	$(BIN)/python -m pip install -q -e '.[all]'
	@touch $@

$(VENV)/.installed-demo: $(VENV)/.installed
	$(BIN)/python -m pip install -q --group demo
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -q --group dev
	@touch $@

.PHONY: rebuild run demo test test-under-load lint bench soak services dashboards clean help

run: $(VENV)/.installed ## Start the agent with its defaults and print its addresses
	@exec $(BIN)/deckwatch run

demo: $(VENV)/.installed-demo ## Run the demo without Docker until Ctrl-C (FAULT=help lists faults to cause; FAST=0 keeps real times)
	@exec $(BIN)/python -m demo $(if $(FAULT),--fault '$(FAULT)') $(if $(filter 0,$(FAST)),--real-time)

test: $(VENV)/.installed-dev services ## Install the test dependencies, then run linters, type checks and tests
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-under-load: $(VENV)/.installed-dev services ## Run the tests while four processes keep the CPUs busy
	$(BIN)/python tests/busy.py $(BIN)/python -m pytest -n 2 --dist loadfile

# The folders with texts that tests/wording.py checks.
WORDED := README.md CHANGELOG.md agent alerts dashboards demo deploy/README.md docs exporters

lint: $(VENV)/.installed-dev ## Run ruff, mypy --strict and the wording check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/wording.py $(WORDED)

services:
	@sh tests/install-services.sh
	@sh tests/install-postgres.sh $(VENV)/postgres
	@sh tests/install-npm.sh $(VENV)/bullmq bullmq 5.81.5
	@sh tests/install-npm.sh $(VENV)/axe axe-core 4.11.0

bench: $(VENV)/.installed-dev services ## Compare CPU, memory, latency and encoding with the peers
	$(BIN)/python tests/bench/main.py

soak: $(VENV)/.installed-dev ## Check that memory and file descriptors stay constant over a million scrapes (several minutes)
	$(BIN)/python tests/bench/soak.py

dashboards: $(VENV)/.installed-dev ## Regenerate dashboards/*.json
	PYTHONPATH=dashboards $(BIN)/python -W ignore -m deckwatch_dashboards

clean: ## Remove the virtual environment and the tools' caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|' 2>/dev/null || grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST)
