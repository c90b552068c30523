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

.PHONY: rebuild run demo example test test-under-load lint bench soak services dashboards docs release clean help

run: $(VENV)/.installed ## Start the agent with its defaults and print its addresses
	@exec $(BIN)/deckwatch run

demo: $(VENV)/.installed-demo ## Run the demo without Docker until Ctrl-C (FAULT=help lists faults to cause; FAST=0 keeps real times)
	@exec $(BIN)/python -m demo $(if $(FAULT),--fault '$(FAULT)') $(if $(filter 0,$(FAST)),--real-time)

example: $(VENV)/.installed-demo ## Run an example until Ctrl-C: NAME=event-pipeline, FAULT=help (FAST=0 keeps real times)
	@$(INSTALL_EXAMPLES)
	@$(INSTALL_NODE_EXAMPLES)
	@exec $(BIN)/python -m examples $(NAME) $(if $(FAULT),--fault '$(FAULT)') $(if $(filter 0,$(FAST)),--real-time)

test: $(VENV)/.installed-dev services ## Install the test dependencies, then run linters, type checks and tests
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n 4 --dist loadfile # many tests wait

test-under-load: $(VENV)/.installed-dev services ## Run the tests while four processes keep the CPUs busy
	$(BIN)/python tests/busy.py $(BIN)/python -m pytest -n 2 --dist loadfile

# The folders with texts that tests/wording.py checks.
WORDED := README.md CHANGELOG.md agent alerts dashboards demo deploy/README.md docs examples exporters

lint: $(VENV)/.installed-dev ## Run ruff, mypy --strict and the wording check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/wording.py $(WORDED)

# The libraries of the examples' applications.
INSTALL_EXAMPLES = sh tests/install-python.sh $(VENV)/examples $(BIN)/python fastapi==0.165.0 uvicorn==0.54.0 gunicorn==23.0.0 Django==5.2.19 'celery[redis]==5.7.0' 'psycopg[binary,pool]==3.3.9' prometheus-client==0.26.0 python-json-logger==4.2.0 pybreaker==1.4.1 tenacity==9.2.1 cachetools==8.0.2
INSTALL_NODE_EXAMPLES = sh tests/install-npm.sh $(VENV)/examples-node ioredis@6.0.0 pg@8.23.1 tsx@4.23.15

services:
	@sh tests/install-services.sh
	@sh tests/install-postgres.sh $(VENV)/postgres
	@sh tests/install-npm.sh $(VENV)/bullmq bullmq@5.81.5
	@sh tests/install-python.sh $(VENV)/arq $(BIN)/python arq==0.28.0
	@sh tests/install-python.sh $(VENV)/pgmq $(BIN)/python pgmq==1.1.4 'psycopg[binary]==3.3.9'
	@sh tests/install-python.sh $(VENV)/oban "$(BIN)/python python3.13 python3.12 $(wildcard $(HOME)/.pyenv/versions/3.1[23].*/bin/python)" oban==0.7.0 'psycopg[binary]==3.3.9'
	@sh tests/install-python.sh $(VENV)/web $(BIN)/python fastapi==0.165.0 flask==3.1.3 litestar==2.25.0 uvicorn==0.54.0 gunicorn==23.0.0 Django==5.2.19 prometheus-client==0.26.0 opentelemetry-sdk==1.45.2 prometheus-fastapi-instrumentator==8.1.0 django-prometheus==2.5.0
	@sh tests/install-python.sh $(VENV)/dependencies $(BIN)/python prometheus-client==0.26.0 python-json-logger==4.2.0 asyncpg==0.32.0 'psycopg[binary]==3.3.9' psycopg-pool==3.3.3 SQLAlchemy==2.1.9 greenlet==3.5.6 redis==8.1.0 cachetools==8.0.2 Django==5.2.19 pybreaker==1.4.1 aiobreaker==1.2.0 purgatory==3.0.1 tenacity==9.2.1 stamina==26.1.0 opentelemetry-sdk==1.45.1 opentelemetry-exporter-otlp-proto-http==1.45.1 $(foreach library,fastapi django flask redis psycopg asyncpg sqlalchemy celery httpx requests,opentelemetry-instrumentation-$(library)==0.66b1) fastapi==0.165.0 flask==3.1.3 celery==5.7.0 httpx==0.28.1 requests==2.34.2 uvicorn==0.54.0 gunicorn==23.0.0
	@sh tests/install-python.sh $(VENV)/uwsgi $(BIN)/python uwsgi==2.0.31 flask==3.1.3 redis==8.1.0 prometheus-client==0.26.0 python-json-logger==4.2.0 opentelemetry-sdk==1.45.1 opentelemetry-exporter-otlp-proto-http==1.45.1 opentelemetry-instrumentation-flask==0.66b1 opentelemetry-instrumentation-redis==0.66b1
	@sh tests/install-python.sh $(VENV)/library-oldest $(BIN)/python prometheus-client==0.18.0 python-json-logger==3.1.0
	@sh tests/install-python.sh $(VENV)/library-newest $(BIN)/python prometheus-client python-json-logger
	@sh tests/install-npm.sh $(VENV)/axe axe-core@4.11.0
	@$(INSTALL_EXAMPLES)
	@$(INSTALL_NODE_EXAMPLES)
	@sh tests/install-python.sh $(VENV)/release $(BIN)/python build==1.6.1 hatchling==1.33.0

bench: $(VENV)/.installed-dev services ## Compare CPU, memory, latency and encoding with the peers
	$(BIN)/python tests/bench/main.py

soak: $(VENV)/.installed-dev services ## Check memory over a million scrapes, 100 000 requests to applications with killed workers, random input, and ten quiet minutes of the alerts (over an hour)
	$(BIN)/python tests/bench/soak.py
	$(BIN)/python tests/bench/fleet.py
	$(BIN)/python tests/bench/remote_write_outage.py
	DECKWATCH_SOAK=1 $(BIN)/python -m pytest -q tests/agent/logs/test_tail_properties.py tests/security/test_random_requests.py tests/alerts/test_live_matrix.py

dashboards: $(VENV)/.installed-dev ## Regenerate dashboards/*.json
	PYTHONPATH=dashboards $(BIN)/python -W ignore -m deckwatch_dashboards

docs: $(VENV)/.installed ## Regenerate the reference, and build the documentation as a web site in build/docs
	@sh tests/install-python.sh $(VENV)/docs $(BIN)/python mkdocs-material==9.8.2
	$(BIN)/python docs/reference.py
	$(VENV)/docs/bin/python docs/site.py

release: ## Run the checklist of a release, and build its packages in dist/
	@sh tests/install-python.sh $(VENV)/release $(BIN)/python build==1.6.1 hatchling==1.33.0
	@$(VENV)/release/bin/python deploy/release.py

clean: ## Remove the virtual environment and the tools' caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|' 2>/dev/null || grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST)
