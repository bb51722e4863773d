# Needs Python 3.11 and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
export UV_PYTHON_DOWNLOADS := never

.PHONY: help install demo serve test check lint types arch fix bench e2e lock clean
help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.venv/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

install: .venv/.installed ## create .venv with the locked dependencies

demo: install ## run a workflow through an API that was asleep, end to end
	@$(BIN)/comfyserve demo

serve: install ## the same server, left running, with curl lines to try
	@$(BIN)/comfyserve demo --keep

test: install ## all quick tests that this machine can run
	@$(BIN)/pytest -n 2 --dist worksteal -m "not clients and not browser and not slow"

e2e: install ## the long ones: third-party clients, browsers, fuzzing of every route
	@$(BIN)/pytest -n 0 -m "clients or browser or slow"

check: lint types arch test ## what CI runs

lint: install
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .

types: install
	@$(BIN)/mypy

arch: install
	@$(BIN)/lint-imports

fix: install ## format and mend what can be mended by itself
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

bench: install ## measure beside the engine itself; prints tables, writes JSON
	@$(BIN)/python -m bench $(ARGS)

lock: ## resolve the dependencies again
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --group dev pyproject.toml \
	  -o requirements.lock --custom-compile-command "make lock"

clean: ## remove the environment and the caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
