# `make demo` and `make test` work on a fresh machine with python3, make and git.
.PHONY: help setup demo test soak bench-serve image check lint format docs screenshots site workflows audit lock
.PHONY: golden bench clean
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# As many processes as processors; each takes tests from the others when its own are done. TESTS="-n 0" for one process.
TESTS ?= -n logical --maxprocesses 8 --dist worksteal

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(READY)  ## make .venv with everything, from the hashed lock files

$(READY): pyproject.toml requirements/dev.txt requirements/uv.txt scripts/setup
	@scripts/setup $(VENV) requirements/dev.txt
	@touch $@

demo: $(READY)  ## synthetic data -> train -> eval -> export -> predict, in a few minutes
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo

test: $(READY)  ## pass all tests, on all processors
	$(BIN)/pytest -q $(TESTS)

soak: $(READY)  ## pass the long tests: overload, releases, reloads, a cluster, containers, object stores
	$(BIN)/uv pip sync --quiet --require-hashes --build-constraints requirements/soak.txt \
		requirements/soak.txt requirements/uv.txt -p $(BIN)/python
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e . -p $(BIN)/python
	$(BIN)/pytest -q -s -m soak tests/serve --full
	$(BIN)/pytest -q -m soak --ignore=tests/serve

bench-serve: $(READY)  ## wrk against other servers; BENCH="--native F --model M --peers P"
	$(BIN)/python -m bench serving $(BENCH)

image: $(READY)  ## build the image that serves without an engine, look into it, try it; IMAGE="--model M"
	$(BIN)/python scripts/image $(IMAGE)

lint: $(READY)  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint  ## lint, then the fast tests
	$(BIN)/pytest -q $(TESTS) -m "not slow"

format: $(READY)  ## rewrite what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)  ## rewrite the generated pages of docs/
	$(BIN)/python scripts/document

# Environments of tools, each from its own lock file.
$(VENV)-%/.ready: requirements/%.txt requirements/uv.txt scripts/setup
	@scripts/setup $(VENV)-$* $<
	@touch $@

site: $(VENV)-docs/.ready  ## build the documentation site into site/, strictly
	$(VENV)-docs/bin/zensical build --clean --strict

workflows: $(VENV)-audit/.ready  ## check the workflows for what attackers use
	$(VENV)-audit/bin/zizmor --offline --persona=pedantic .github

audit: $(VENV)-audit/.ready  ## ask whether locked packages have known holes
	$(VENV)-audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/serve.txt -r requirements/train.txt

screenshots: $(READY)  ## redraw docs/images/ from a training on synthetic images; needs Chromium
	$(BIN)/python scripts/screenshots

lock: $(READY)  ## refresh the hashed lock files
	UV=$(BIN)/uv scripts/lock

golden: $(READY)  ## rewrite the golden files of the tests
	$(BIN)/python -m tests.golden.make

bench: $(READY)  ## measure against peers, side by side; BENCH="data --native FOLDER" for one part
	$(BIN)/uv pip sync --quiet --require-hashes requirements/bench.txt -p $(BIN)/python
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e . -p $(BIN)/python
	$(BIN)/python -m bench $(BENCH)

clean:  ## remove what the commands made here
	rm -rf $(VENV) $(VENV)-* demo site .pytest_cache .mypy_cache .ruff_cache
