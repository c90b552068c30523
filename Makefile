# Deckwatch. `make help` lists what there is.

# PYTHON names the interpreter, VENV the virtual environment. Give each Python version an environment to keep them all:
# make test PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The Python that the environment must have: PYTHON if it is given, otherwise the one it was made with.
wanted := $(if $(filter file,$(origin PYTHON)),$(BIN)/python,$(PYTHON))
version := $(shell $(wanted) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
ready := $(if $(version),$(wildcard $(BIN)/pip$(version)))
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.DEFAULT_GOAL := help

$(VENV)/.installed: pyproject.toml constraints.txt $(if $(ready),,rebuild)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Deckwatch needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -n "$(ready)" || $(PYTHON) -m venv $(if $(wildcard $(VENV)/pyvenv.cfg),--clear) $(VENV) || { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
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

run: $(VENV)/.installed ## Start the agent on its defaults and print where to look
	@exec $(BIN)/deckwatch run

demo: $(VENV)/.installed-demo ## Everything on this machine until Ctrl-C, without Docker (FAULT=help lists trouble to make; FAST=0: real times)
	@exec $(BIN)/python -m demo $(if $(FAULT),--fault '$(FAULT)') $(if $(filter 0,$(FAST)),--real-time)

test: $(VENV)/.installed-dev services ## Install what the tests need, then lint, types and tests
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-under-load: $(VENV)/.installed-dev services ## The tests, with four busy processes beside them
	$(BIN)/python tests/busy.py $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.installed-dev ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

services:
	@sh tests/install-services.sh
	@sh tests/install-postgres.sh $(VENV)/postgres
	@sh tests/install-bullmq.sh $(VENV)

bench: $(VENV)/.installed-dev services ## CPU, memory, latency and encoding beside the peers, in one run
	$(BIN)/python tests/bench/main.py

soak: $(VENV)/.installed-dev ## A million scrapes: memory and file descriptors stay flat (some minutes)
	$(BIN)/python tests/bench/soak.py

dashboards: $(VENV)/.installed-dev ## Write dashboards/*.json anew, from the code beside them
	PYTHONPATH=dashboards $(BIN)/python -W ignore -m deckwatch_dashboards

clean: ## Remove the virtual environment and what tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|' 2>/dev/null || grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST)
