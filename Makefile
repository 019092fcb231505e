.DEFAULT_GOAL := help
.PHONY: help doctor up user users certificate dashboard run sql status sample down clean backup restore ps logs test test-unit test-integration test-stack test-one-stack test-small-stack soak soak-endpoint siege bench bench-endpoint fuzz lint format dictionary lock check sbom

PYTHON ?= python3
COMPOSE = docker compose --profile jobs --profile dashboard --profile cluster
BIN = .venv/bin
# Statements may hold any character, so they go through the environment and not through the shell, and make leaves $ alone.
override Q := $(value Q)
export Q

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- the lakehouse ---------------------------------------------------------------------------------------------------

doctor: ## Look for what is in the way of the stack, and say what to do about it
	@$(PYTHON) -m jobs.doctor $(ARGS)

up: ## Build and start the stack; returns when every service is healthy
	@docker/up

user: ## Add a user of the SQL endpoint: NAME=ana, and ROLE=steward for ids, ROLE=engineer for every schema; prints the password
	@docker/lake users add "$(or $(NAME),$(error say whom: make user NAME=ana))" --role "$(or $(ROLE),analyst)" --generate

users: ## List the users of the SQL endpoint (ARGS="passwd ana", ARGS="role ana steward", ARGS="remove ana")
	@docker/lake users $(or $(ARGS),list)

certificate: ## Have the SQL endpoint speak TLS, with a new certificate for NAME=lake.example.org
	@docker/lake certificate generate "$(or $(NAME),$(error say for which host: make certificate NAME=lake.example.org))"
	@docker compose restart sql-endpoint

dashboard: ## Start Superset with an example dashboard, in the stack
	@docker/dashboard/start

run: ## Load what is new in ./landing: in the stack if it is up, else embedded (ARGS=… are handed on)
	@docker/lake run $(ARGS)

sql: ## Query: Q="SELECT …" prints CSV, without Q a prompt opens
	@if [ -n "$$Q" ]; then docker/lake sql --format csv -e "$$Q"; else docker/lake sql; fi

status: ## Show how new the data is, the last loads and what is in quarantine
	@docker/lake status

sample: ## Make sample input (ARGS="--meterpoints 1000 --days 7 --out DIR")
	@docker/lake sample $(ARGS)

down: ## Stop the stack and keep its data
	@$(COMPOSE) down --remove-orphans

clean: ## Stop the stack and delete its data (asks; FORCE=1 does not)
	@FORCE=$(FORCE) docker/clean

backup: ## Write a backup of the stack (TO=folder; default backups/<time>)
	@TO="$(TO)" docker/backup

restore: ## Restore a backup into an empty stack (FROM=folder)
	@FROM="$(FROM)" docker/restore

ps: ## Show the services and their health
	@docker compose ps --all

logs: ## Follow the logs of the stack (S=metastore: of one service)
	@docker compose logs --follow --tail 100 $(S)

sbom: .venv/ready ## List what is in the images that are built, as CycloneDX, and what is known of it (TO=folder; default var/sbom)
	@$(BIN)/python docker/sbom.py $(TO)

# --- its code --------------------------------------------------------------------------------------------------------

test: test-unit test-integration test-stack ## Run all tests (those of the stack need Docker, and say so)

# The first two give way to the third, whose clients wait, where `make --jobs=3 test` runs them beside it.
test-unit: .venv/ready ## Test functions, on one Spark session
	@nice -n 19 $(BIN)/pytest tests/unit

test-integration: .venv/ready ## Test whole loads, embedded, in two processes
	@nice -n 19 $(BIN)/pytest --numprocesses 2 --dist loadfile tests/integration

test-stack: test-one-stack test-small-stack ## Test the stack that compose.yaml makes, beside one that may run

# Where `make --jobs=3 test` runs them, the second begins when the unit tests end.
OF_SMALL_STACK := tests/stack/test_full_disk.py tests/stack/test_sbom.py

test-one-stack: .venv/ready
	@$(BIN)/pytest tests/stack $(addprefix --ignore=,$(OF_SMALL_STACK))

test-small-stack: .venv/ready
	@$(BIN)/pytest $(OF_SMALL_STACK)

soak: .venv/ready ## Kill loads in the stack at random points (MINUTES=30)
	@LAKE_SOAK_MINUTES=$(or $(MINUTES),30) $(BIN)/pytest tests/stack/test_faults.py -k random -s

soak-endpoint: .venv/ready ## Query the stack's endpoint with fifty clients at once (MINUTES=10)
	@LAKE_SOAK_MINUTES=$(or $(MINUTES),10) $(BIN)/pytest tests/stack/test_load.py -s

siege: .venv/ready ## Let one client attack the stack's endpoint while others query it (MINUTES=10)
	@LAKE_SIEGE_MINUTES=$(or $(MINUTES),10) $(BIN)/pytest tests/stack/test_siege.py -s

bench: .venv/ready ## Measure speed and memory against peers in the same run
	@$(BIN)/python -m tests.bench.ingest $(ARGS)

bench-endpoint: .venv/ready ## Measure the SQL endpoint against an untuned one and DuckDB, in a stack of its own
	@$(BIN)/python -m tests.bench.endpoint $(ARGS)

fuzz: .venv/ready ## Try mutated input files (MINUTES=10)
	@$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),10)

lint: .venv/ready ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: .venv/ready ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

dictionary: .venv/ready ## Make docs/data-dictionary.md anew from the comments in sql/ and the queries in docs/queries
	@$(BIN)/python -m tests.dictionary

check: lint test ## All that CI checks

lock: ## Pin all dependencies anew in requirements.lock, and the dashboard's in its own (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --generate-hashes --no-annotate --no-header --quiet --upgrade -o requirements.lock
	cd docker/dashboard && uv pip compile requirements.in --python-version 3.11 --python-platform linux --exclude-newer 2026-05-15 \
	  --generate-hashes --no-annotate --no-header --quiet --upgrade -o requirements.lock

# The virtual environment; made anew when the lock file, or the making of the archive of Java's classes, changes.
.venv/ready: requirements.lock jobs/class_archive.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	@echo "Making the virtual environment .venv (some minutes: PySpark is 455 MB)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@echo "Preparing Java's classes, so that commands start faster (a minute or two)"
	@$(BIN)/python -m jobs.class_archive >/dev/null 2>&1 \
	  || echo "There is no archive of Java's classes, so that commands start slower (why: $(BIN)/python -m jobs.class_archive)"
	@touch $@
