# `make help` lists the targets. All of them use .venv. Only make and Python 3.11 or later are required.
PYTHON ?= python3
BIN := .venv/bin
PACKAGE := layers/posedrop
LAYERS := $(PACKAGE)/requirements.txt layers/prepare/requirements.txt
SCREENSHOT := .local/console/readme.png
WORKERS := 2
PYTEST = $(BIN)/python -m pytest -n $(or $(PYTEST_WORKERS),$(WORKERS)) --dist loadscope --no-loadscope-reorder
FAST := tests/unit tests/integration tests/ops
UV_COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --universal \
	--python-version 3.11 --no-strip-extras

export SAM_CLI_TELEMETRY := 0
# Python may write bytecode: otherwise each process of a function and each test worker compiles everything that it imports.
unexport PYTHONDONTWRITEBYTECODE
export SEGMIND_API_KEY
# Options are passed through the environment, so that quotes in them are kept.
export LOCAL_PARAMS = $(PARAMS)
export LOCAL_EMULATOR = $(EMULATOR)

.PHONY: help setup hooks demo up env down chaos outage redrive test test-fast test-large check lint types imports bandit template workflows \
	pins audit mutate bench bench-limit screenshot lock release-notes clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name text; do \
		echo "$$text" | fold -s -w 58 | { read -r line; printf '  make %-14s %s\n' "$$name" "$$line"; \
		while read -r line; do printf '%21s %s\n' '' "$$line"; done; }; done

setup: .venv/.installed ## create .venv and install the pinned packages (two minutes, once)

.venv/.installed: requirements-dev.txt
	@$(PYTHON) local/environment.py
	@touch $@

hooks: setup ## run the quick parts of make check before each commit
	$(BIN)/pre-commit install

demo: setup ## run the whole pipeline once (half a minute); LATENCY=3, CONSOLE=1, or SEGMIND_API_KEY=SG_... for the real model
	@$(BIN)/python -m local.demo $(if $(LATENCY),--latency $(LATENCY)) $(if $(CONSOLE),--console) \
		$(if $(SEGMIND_BASE_URL),--segmind-base-url $(SEGMIND_BASE_URL))

up: setup ## start the local stack and leave it running; SEGMIND_BASE_URL=http://..., PARAMS="Name=Value ...", EMULATOR="--latency 1"
	@$(BIN)/python -m local up --segmind-base-url "$(SEGMIND_BASE_URL)" --params "$$LOCAL_PARAMS" \
		--emulator "$$LOCAL_EMULATOR"

env: ## print shell variables for the local stack, for eval: docs/backends.md
	@test -x $(BIN)/python || { echo "No stack is running: make up" >&2; echo false; exit 1; }
	@$(BIN)/python -m local env

down: setup ## stop the local stack
	@$(BIN)/python -m local down

outage: setup ## simulate two hours without delivery, in compressed time, with chaos; SEED=1
	$(BIN)/python -m local.chaos.outage --seed $(or $(SEED),1)

chaos: setup ## run 200 jobs against a provider and an AWS with faults; SEED=1
	$(BIN)/python -m local.chaos --seed $(or $(SEED),1)

redrive: setup ## redrive the dead letters; STACK=name for a stack on AWS
	$(BIN)/python -m ops $(if $(STACK),--stack $(STACK),--local) redrive

# Browsers and local stacks make their tests wait: a third worker uses that time, even on two cores.
test: WORKERS := 3
test: setup ## run all tests except the large ones (five minutes); PYTEST_WORKERS=5 on four cores
	$(PYTEST) --durations 10 --cov

test-fast: setup ## run the quick tests (a minute)
	$(PYTEST) $(FAST)

test-large: setup ## run the large tests
	$(PYTEST) -m large

check: lint types imports bandit template workflows pins ## run everything that CI checks except the tests

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy $(PACKAGE)/posedrop functions local bench ops tests

imports: setup
	@PYTHONPATH=$(PACKAGE):. $(BIN)/lint-imports

bandit: setup
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml $(PACKAGE)/posedrop functions ops local bench

template: setup
	$(BIN)/cfn-lint --append-rules cfn_lint_serverless.rules --template template.yaml
	$(BIN)/sam validate --lint --template-file template.yaml
	$(BIN)/cfn-lint --template docs/recipes/*.yaml

workflows: setup
	$(BIN)/zizmor --offline --quiet --pedantic --collect all --strict-collection .github .pre-commit-config.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms \
		$(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/pre-commit validate-config

pins: setup
	@grep -ho '^[^ ]*==[^ ]*' $(LAYERS) | while read -r pin; do grep -qF "$$pin " requirements-dev.txt \
		|| { echo "A layer pins $$pin, requirements-dev.txt does not: make lock"; exit 1; }; done
	@grep -o '^[^ ]*==[^ ]*' requirements-mutate.txt | while read -r pin; do \
		! grep -q "^$${pin%%==*}==" requirements-dev.txt || grep -qF "$$pin " requirements-dev.txt \
		|| { echo "requirements-mutate.txt pins $$pin, requirements-dev.txt another version: make lock"; exit 1; }; done

audit: setup ## check the pinned requirements for known vulnerabilities at PyPI; SERVICE=osv uses osv.dev
	@# --strict: fail if a package could not be checked.
	@for file in $(LAYERS) requirements-dev.txt requirements-mutate.txt; do \
		echo "$$file:"; \
		$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
			--vulnerability-service $(or $(SERVICE),pypi) --requirement $$file 2>.audit.log || failed=1; \
		grep -v '^ ' .audit.log | tail -n 1; \
		if grep -q 'could not be audited\|ConnectionError\|ServiceError' .audit.log; then \
			echo "NOT audited: the advisories cannot be reached. Try SERVICE=osv or another network."; fi; \
	done; rm -f .audit.log; test -z "$$failed"

mutate: .venv/.mutate ## change the code for money and limits, and check that a test fails; MODULES="gate/rate_limit.py", SECONDS=480
	$(BIN)/python -m tests.mutate $(if $(SECONDS),--seconds $(SECONDS)) $(MODULES)

.venv/.mutate: requirements-mutate.txt | setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $<
	touch $@

bench: setup ## run the benchmarks (some minutes)
	$(BIN)/python -m bench

bench-limit: setup ## measure the use of the plan's request limit (half an hour)
	$(BIN)/python -m bench limit

screenshot: setup ## make the README's screenshot of the console again
	@rm -f $(SCREENSHOT)
	$(BIN)/python -m pytest -q tests/console/test_browser_readme.py
	$(BIN)/python -c 'from PIL import Image; Image.open("$(SCREENSHOT)").save("docs/console.png", optimize=True)'

lock: setup ## pin the requirements again
	$(BIN)/python -m pip install --quiet uv
	$(UV_COMPILE) requirements-dev.in --output-file requirements-dev.txt
	$(UV_COMPILE) -c requirements-dev.txt requirements-mutate.in --output-file requirements-mutate.txt
	for file in $(LAYERS:.txt=); do $(UV_COMPILE) -c requirements-dev.txt $$file.in --output-file $$file.txt; done

release-notes: setup ## print the notes for release TAG=v1.2.3, or what must be fixed first
	@$(BIN)/python -m local.release "$(TAG)"

clean: down ## stop the local stack and delete all build results
	rm -rf .aws-sam .local
