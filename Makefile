# `make help` lists the targets. Everything happens in .venv; nothing but Python 3.11 or later and make is needed.
PYTHON ?= python3
BIN := .venv/bin
PACKAGE := layers/posedrop
LAYERS := $(PACKAGE)/requirements.txt layers/prepare/requirements.txt
SCREENSHOT := .local/console/readme.png
PYTEST = $(BIN)/python -m pytest -n $(or $(PYTEST_WORKERS),2) --dist loadscope --no-loadscope-reorder
FAST := tests/unit tests/integration tests/ops
UV_COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --universal \
	--python-version 3.11 --no-strip-extras

export SAM_CLI_TELEMETRY := 0
# What is compiled is kept: else each process of a function, and each test worker, compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE
export SEGMIND_API_KEY
# Options reach the commands through the environment, so that quotes in them survive.
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

hooks: setup ## let git run the affected parts of make check before each commit
	$(BIN)/pre-commit install

demo: setup ## run the whole pipeline once (half a minute); LATENCY=3, CONSOLE=1, or SEGMIND_API_KEY=SG_... for the real model
	@$(BIN)/python -m local.demo $(if $(LATENCY),--latency $(LATENCY)) $(if $(CONSOLE),--console) \
		$(if $(SEGMIND_BASE_URL),--segmind-base-url $(SEGMIND_BASE_URL))

up: setup ## start the local stack and leave it running; SEGMIND_BASE_URL=http://..., PARAMS="Name=Value ...", EMULATOR="--latency 1"
	@$(BIN)/python -m local up --segmind-base-url "$(SEGMIND_BASE_URL)" --params "$$LOCAL_PARAMS" \
		--emulator "$$LOCAL_EMULATOR"

env: ## print shell variables to reach the local stack: docs/backends.md
	@test -x $(BIN)/python || { echo "No stack is running: make up" >&2; echo false; exit 1; }
	@$(BIN)/python -m local env

down: setup ## stop the local stack
	@$(BIN)/python -m local down

outage: setup ## chaos: two hours without delivery, in compressed time; SEED=1
	$(BIN)/python -m local.chaos.outage --seed $(or $(SEED),1)

chaos: setup ## chaos: 200 jobs against a provider that misbehaves; SEED=1
	$(BIN)/python -m local.chaos --seed $(or $(SEED),1)

redrive: setup ## redrive the dead letters; STACK=name for a stack on AWS
	$(BIN)/python -m ops $(if $(STACK),--stack $(STACK),--local) redrive

test: setup ## run every test but the large ones (minutes); PYTEST_WORKERS=4 on more than two cores
	$(PYTEST) --durations 10 --cov

test-fast: setup ## run the quick tests, before a commit (a minute or two)
	$(PYTEST) $(FAST)

test-large: setup ## run the large tests
	$(PYTEST) -m large

check: lint types imports bandit template workflows pins ## all that CI checks besides the tests

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy $(PACKAGE)/posedrop functions local bench ops

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

audit: setup ## check the pinned packages against PyPI's advisories; SERVICE=osv uses osv.dev
	@# --strict: a package that could not be looked up is not taken for a sound one.
	@for file in $(LAYERS) requirements-dev.txt requirements-mutate.txt; do \
		echo "$$file:"; \
		$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
			--vulnerability-service $(or $(SERVICE),pypi) --requirement $$file 2>.audit.log || failed=1; \
		grep -v '^ ' .audit.log | tail -n 1; \
		if grep -q 'could not be audited\|ConnectionError\|ServiceError' .audit.log; then \
			echo "The advisories cannot be reached from here: NOT audited. Try SERVICE=osv, or another network."; fi; \
	done; rm -f .audit.log; test -z "$$failed"

mutate: .venv/.mutate ## mutation tests of the code of money and limits; MODULES="gate/budget.py", SECONDS=480
	$(BIN)/python -m tests.mutate $(if $(SECONDS),--seconds $(SECONDS)) $(MODULES)

.venv/.mutate: requirements-mutate.txt | setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $<
	touch $@

bench: setup ## run the benchmarks (some minutes)
	$(BIN)/python -m bench

bench-limit: setup ## measure the use of the plan's request limit (half an hour)
	$(BIN)/python -m bench limit

screenshot: setup ## update the README's picture of the page, with a browser test
	@rm -f $(SCREENSHOT)
	$(BIN)/python -m pytest -q tests/console/test_browser_readme.py
	$(BIN)/python -c 'from PIL import Image; Image.open("$(SCREENSHOT)").save("docs/console.png", optimize=True)'

lock: setup ## update the pinned requirements
	$(BIN)/python -m pip install --quiet uv
	$(UV_COMPILE) requirements-dev.in --output-file requirements-dev.txt
	$(UV_COMPILE) -c requirements-dev.txt requirements-mutate.in --output-file requirements-mutate.txt
	for file in $(LAYERS:.txt=); do $(UV_COMPILE) -c requirements-dev.txt $$file.in --output-file $$file.txt; done

release-notes: setup ## print the release notes for TAG=v1.2.3, or the problems
	@$(BIN)/python -m local.release "$(TAG)"

clean: down ## stop the stack and delete all build results
	rm -rf .aws-sam .local
