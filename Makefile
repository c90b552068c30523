# Deckwatch. `make help` lists what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.DEFAULT_GOAL := help

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Deckwatch needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install -q pip
	$(BIN)/python -m pip install -q -e '.[all]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -q --group dev
	@touch $@

.PHONY: run demo test lint bench soak services dashboards clean help

run: $(VENV)/.installed ## Start the agent on its defaults and print where to look
	@exec $(BIN)/deckwatch run

demo: $(VENV)/.installed ## Everything on this machine until Ctrl-C, without Docker (FAULT=help lists trouble to make; FAST=0: real times)
	@exec $(BIN)/python -m demo $(if $(FAULT),--fault '$(FAULT)') $(if $(filter 0,$(FAST)),--real-time)

test: $(VENV)/.installed-dev services ## Install what the tests need, then lint, types and tests
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.installed-dev ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

services:
	@sh tests/install-services.sh
	@sh tests/install-postgres.sh $(VENV)/postgres

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
