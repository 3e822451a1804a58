# What there is to type; `make help` lists it. ARGS is passed on: make run ARGS=--once, make test ARGS="-k streams".
.DEFAULT_GOAL := help
.PHONY: help run test check static compiled format chaos fuzz bench bench-quick screenshots test-streams audit sbom lock clean

VENV := .venv
BIN := $(VENV)/bin
AUDIT := $(VENV)/audit
ARGS ?=
JOBS ?= 4
STACK_JOBS ?= 2
# In this order, the long ones first: else one of the two ends alone.
STACKS := tests/acceptance/test_upgrade.py tests/acceptance/test_backup.py tests/chaos/test_kills.py \
  $(wildcard tests/acceptance/test_on_*.py) tests/acceptance/test_secrets.py tests/acceptance/test_senders.py \
  tests/acceptance/test_noise.py tests/acceptance/test_watch.py tests/acceptance/test_least_power.py \
  tests/acceptance/test_shadow.py tests/acceptance/test_spill.py tests/acceptance/test_backtests.py
ALONE := tests/acceptance tests/chaos
# Whole files, in the order in which they are found (else those with the most tests would go first).
FILES := --dist loadfile --no-loadscope-reorder
# What depends on a server's own kind most.
STREAMS := $(addprefix tests/integration/,test_streams.py test_gate.py test_gauges.py)
FUZZ_SECONDS ?= 60

# Compiled once, not by each process that a test starts: images of containers often turn this off.
unexport PYTHONDONTWRITEBYTECODE

# Mine first, then what a machine may have; the first that is new enough makes .venv.
PYTHONS := $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## Run all of MUTT on this machine, with sample events; Ctrl-C stops it (ARGS=--once: end by itself)
	@exec $(BIN)/mutt up $(ARGS)

# Files go to JOBS processes, each with servers of its own, those that take long before the unit tests; then what needs
# whole stacks to STACK_JOBS. What measures time, and what breaks things and says how soon, has the machine to itself.
test: static ## Everything that is tested: the checks, then every test (ARGS: as pytest takes them, in one process)
ifneq ($(strip $(ARGS)),)
	@exec $(BIN)/python -m pytest $(ARGS)
else
	@$(BIN)/python -m pytest -q -n $(JOBS) $(FILES) $(ALONE:%=--ignore=%) \
	&& $(BIN)/python -m pytest -q -n $(STACK_JOBS) $(FILES) $(STACKS) \
	&& exec $(BIN)/python -m pytest -q $(ALONE) $(STACKS:%=--ignore=%)
endif

check: static ## The quick part of it, in seconds: format, lint, types, imports, unit tests (ARGS: in one process)
	@exec $(BIN)/python -m pytest -q tests/unit --hypothesis-profile=quick -p no:schemathesis \
	  $(or $(strip $(ARGS)),-n 2 --dist loadfile)

static: $(VENV)/.installed
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports > $(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }
	@echo "format, lint, types and imports are in order"

# The tests' modules, of which else each process that collects them has its own made at the start.
compiled: $(VENV)/.installed
	@$(BIN)/python -m pytest -q --collect-only > /dev/null || true

format: $(VENV)/.installed ## Mend what can be mended by machine
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format .

chaos: $(VENV)/.installed ## Break everything under load and balance the books (SEED=7, FAULTS=redis,killed, EVENTS=200000)
	@exec $(BIN)/python -m tests.chaos $(ARGS)

fuzz: $(VENV)/.installed ## Bytes against the parsers, FUZZ_SECONDS (60) each; the properties, with many more examples
	@$(BIN)/python -c 'import atheris' 2> /dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-input --only-binary :all: --require-hashes -r tests/fuzz/requirements.txt 2> /dev/null || true
	@$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)
	@$(BIN)/python -m pytest tests/unit tests/integration/test_bad_input.py tests/integration/test_admin_bad_input.py \
	  tests/integration/test_openapi.py -m hypothesis --hypothesis-profile=fuzz --timeout=7200 $(ARGS)

bench: $(VENV)/.installed ## Measure everything, in about a quarter of an hour (ARGS=--compare: beside the saved table)
	@exec $(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(VENV)/.installed ## Measure in under a minute, less surely
	@exec $(BIN)/python -m benchmarks --quick $(ARGS)

screenshots: $(VENV)/.installed ## Pictures of the pages for the docs, from a MUTT that is started for them (ARGS="--only rules")
	@exec $(BIN)/python -m tests.screenshots $(ARGS)

test-streams: $(VENV)/.installed ## The streams once more on another server: REDIS=/usr/bin/redis-server
	@MUTT_TEST_REDIS_BIN=$(REDIS) exec $(BIN)/python -m pytest $(STREAMS) $(ARGS)

audit: $(VENV)/.installed $(AUDIT)/.installed ## Known vulnerabilities, licences, hashes, bandit (fails, too, where advisories can't be reached)
	@exec $(AUDIT)/bin/python -m tests.audit

sbom: $(VENV)/.installed $(AUDIT)/.installed ## What MUTT is made of here, as CycloneDX: build/sbom.json (the image has its own, /app/sbom.json)
	@$(AUDIT)/bin/python docker/sbom.py $(BIN)/python build/sbom.json && echo "build/sbom.json is written"

lock: ## Choose versions anew and write them down, with hashes (needs uv)
	@command -v uv > /dev/null || { echo "make lock needs uv on PATH"; exit 1; }
	uv pip compile --quiet $(LOCK) requirements.in -o requirements.txt
	uv pip compile --quiet $(LOCK) -c requirements.txt docker/requirements.in -o docker/requirements.txt
	uv pip compile --quiet $(LOCK) tests/fuzz/requirements.in -o tests/fuzz/requirements.txt
	uv pip compile --quiet $(LOCK) tests/audit/requirements.in -o tests/audit/requirements.txt

LOCK := --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --no-strip-extras

# Its tools want other versions of what MUTT runs on.
$(AUDIT)/.installed: tests/audit/requirements.txt $(VENV)/.installed
	@echo "installing what tests/audit/requirements.txt names into $(AUDIT)"
	@$(BIN)/python -m venv --clear $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r tests/audit/requirements.txt
	@touch $@

clean: ## Remove what make made (not what `mutt up` keeps: that is in MUTT_HOME)
	rm -rf $(VENV) mutt.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The environment, made anew when what it holds has changed.
$(VENV)/.installed: requirements.txt setup.cfg pyproject.toml
	@new_enough='import sys; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(BIN)/python -c "$$new_enough" 2> /dev/null; then \
	  for python in $(PYTHONS); do \
	    $$python -c "$$new_enough" 2> /dev/null && break; python=; \
	  done; \
	  [ "$$python" ] || { echo "MUTT needs Python 3.11 or newer; none of these is: $(PYTHONS)"; exit 1; }; \
	  $$python -c 'import venv, ensurepip' 2> /dev/null || { \
	    echo "$$python can't make environments: install its venv module (Debian, Ubuntu: apt install python3-venv)"; \
	    exit 1; }; \
	  echo "making $(VENV) with $$($$python --version)"; \
	  $$python -m venv --clear $(VENV) || exit 1; \
	fi
	@echo "installing what requirements.txt names into $(VENV) (the first time takes a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation -e .
	@touch $@
