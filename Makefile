# Everything a developer runs. Needs Python 3.11 or later, make and git; the rest is built into .venv from uv.lock.
#
# The environment is built once and works offline from then on. It is built again when uv.lock or
# pyproject.toml have changed, when the checkout has moved, or when .venv is broken.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
TOOLS := .venv-tools
BIN := $(VENV)/bin
STAMP := $(VENV)/.built-from
AUDITOR := $(BIN)/pip-audit
AUDITED := uv.lock.audited
AUDIT_OUTCOME := $(VENV)/.audit

# What uv needs when this machine has none; only used to install the locked versions of everything else.
UV_VERSION := 0.13.9

export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := $(VENV)
export PYTHONUNBUFFERED := 1
# The machine's own certificate authorities, as behind a company's proxy; the older and the newer name.
export UV_NATIVE_TLS := true
export UV_SYSTEM_CERTS := true
SYSTEM_CERTIFICATES := $(wildcard /etc/ssl/certs/ca-certificates.crt)

PYTHONS := python3.13 python3.12 python3.11 python3.14 python3 python /usr/local/bin/python3 /usr/bin/python3

# The first Python that is new enough and really runs: pyenv puts commands on the path that only fail.
# Called outside any virtual environment, because .venv may be the very thing that is to be rebuilt.
find_python = \
	for candidate in $(if $(PYTHON),"$(PYTHON)",$(PYTHONS)); do \
		python=$$("$$candidate" -c 'import sys; \
			sys.exit("too old") if sys.version_info < (3, 11) else print(sys._base_executable)' \
			2>/dev/null) && [ -x "$$python" ] && break; \
		python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "No Python 3.11 or later was found$(if $(PYTHON), as $(PYTHON)). Install one (Debian: apt-get install python3 python3-venv)," >&2; \
		echo "or name one: make PYTHON=/path/to/python3.12 …" >&2; \
		exit 1; \
	fi

# uv: the one on the path, the one of an earlier run, or a new one in .venv-tools.
find_uv = \
	if uv --version >/dev/null 2>&1; then uv=uv; else uv=$(TOOLS)/bin/uv; fi

install_uv = \
	if ! $$uv --version >/dev/null 2>&1; then \
		echo "This machine has no uv: installing it into $(TOOLS) …"; \
		rm -rf $(TOOLS); mkdir $(TOOLS); echo '*' >$(TOOLS)/.gitignore; \
		if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
			"$$python" -m venv $(TOOLS) && \
			$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
		elif "$$python" -m pip --version >/dev/null 2>&1; then \
			"$$python" -m pip install --quiet --disable-pip-version-check --target $(TOOLS) uv==$(UV_VERSION); \
		else \
			echo "$$python can make no virtual environment, and has no pip." >&2; false; \
		fi || { \
			echo "uv could not be installed. Is PyPI reachable? On Debian: apt-get install python3-venv." >&2; \
			echo "Or install uv yourself: https://docs.astral.sh/uv/getting-started/installation/" >&2; \
			rm -rf $(TOOLS); exit 1; \
		}; \
	fi

# What the environment was built from; a different text means: build again.
built_from = { pwd; cksum uv.lock pyproject.toml; }

.PHONY: help
help: ## show this list
	@echo "make run            start the gateway and the sandbox, and print a question to try"
	@echo "make test           everything that CI runs: check, lock, audit, and all tests with coverage"
	@echo "make audit          whether a dependency has a published advisory: error 1 one has, 3 not checked"
	@echo "make check          format, lint, types, import contracts"
	@echo "make format         format the code and mend what the linter can mend"
	@echo "make nemesis        torture the real server, and prove that nothing was lost"
	@echo "make bench          the benchmark, with each budget as met or not"
	@echo "make test-slow      the tests that take longer than the suite may"
	@echo "make test-hintless  the acceptance tests at a server where no hint ever arrives (some minutes)"
	@echo "make reference      write docs/reference/settings.md and .env.example from the settings"
	@echo "make env            only build the environment in $(VENV)"
	@echo "make clean          remove the environment and all caches; data/ and .env stay"

.PHONY: env
env:
	@if $(BIN)/python -c '' 2>/dev/null && [ "$$($(built_from))" = "$$(cat $(STAMP) 2>/dev/null)" ]; then \
		exit 0; \
	fi; \
	$(find_python); \
	$(find_uv); \
	$(install_uv); \
	echo "Building $(VENV) with $$python …"; \
	{ $(BIN)/python -c '' 2>/dev/null && [ "$$(head -n 1 $(STAMP) 2>/dev/null || pwd)" = "$$(pwd)" ]; } \
		|| rm -rf $(VENV); \
	rm -f $(STAMP); \
	$$uv sync --quiet --frozen --group dev --python "$$python" || { \
		echo "The environment could not be built. The first time, PyPI must be reachable;" >&2; \
		echo "the lines above say what failed. Run the same command again, or \`make clean\` before it." >&2; \
		exit 1; \
	}; \
	$(built_from) >$(STAMP)

.PHONY: run
run: env ## the gateway with its sandbox
	@$(BIN)/python -m infra dev $(ARGS)

.PHONY: test
test: check lock audit-if-possible chromium
	@rm -f .coverage .coverage.*
	@export COVERAGE_PROCESS_START="$(CURDIR)/pyproject.toml" COVERAGE_FILE="$(CURDIR)/.coverage"; \
	$(BIN)/coverage run -m pytest -m "not slow" -n 4 --dist loadfile --no-loadscope-reorder $(ARGS); code=$$?; \
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report || [ $$code -ne 0 ] || code=1; \
	$(tell_audit); \
	exit $$code

.PHONY: test-slow
test-slow: env chromium
	@$(BIN)/pytest -m slow $(ARGS)

.PHONY: test-hintless
test-hintless: env
	@ACCEPTANCE_HINTS=dropped $(BIN)/pytest tests/acceptance -m "not slow" -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: check
check: env
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: env
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

.PHONY: lock
lock: env
	@$(find_uv); \
	if ! $$uv --version >/dev/null 2>&1; then $(find_python); $(install_uv); fi; \
	echo "Is uv.lock current?"; \
	told=$$($$uv lock --check --python $(BIN)/python 2>&1) && { echo "It is."; exit 0; }; \
	case "$$told" in \
		*"needs to be updated"*) \
			echo "$$told"; echo "uv.lock does not match pyproject.toml. Run \`uv lock\` and commit the result." >&2; exit 1;; \
		*) \
			echo "$$told"; echo "That could not be checked (no network?); going on.";; \
	esac

# Asks whether a dependency has a published advisory, and leaves the answer in $$code: 0 none has, 1 one has,
# 3 that could not be checked, or not for all. A good answer leaves its date, and of which lock it is.
ask_for_advisories = \
	echo "Does any dependency have a published advisory?"; \
	[ -n "$$REQUESTS_CA_BUNDLE" ] || [ -z "$(SYSTEM_CERTIFICATES)" ] || \
		export REQUESTS_CA_BUNDLE=$(SYSTEM_CERTIFICATES); \
	told=$$($(AUDITOR) --local --skip-editable --progress-spinner off 2>&1); code=$$?; \
	skipped=$$(echo "$$told" | grep -c "could not be audited"); \
	if echo "$$told" | grep -q "known vulnerabilit" && [ $$code -ne 0 ]; then \
		echo "$$told" | grep -v "could not be audited"; \
		echo "Update what is listed above: uv lock --upgrade-package NAME" >&2; code=1; \
	elif [ $$code -eq 0 ] && [ $$skipped -eq 0 ]; then \
		echo "None has."; \
		printf '%s %s\n' "$$(date -u +%Y-%m-%d)" "$$(cksum <uv.lock | tr ' ' '-')" >$(AUDITED); \
	elif [ $$code -eq 0 ]; then \
		echo "$$skipped dependencies could NOT be checked: the advisory service does not know them, or cannot"; \
		echo "be reached from here. The others have none."; code=3; \
	else \
		echo "$$told" | tail -n 3; \
		echo "NOTHING could be checked: the advisory service cannot be reached from here."; code=3; \
	fi

tell_audit = \
	if [ "$$(cat $(AUDIT_OUTCOME) 2>/dev/null)" != 0 ]; then \
		echo "NOT CHECKED: whether a dependency has a published advisory (make audit)."; \
		$(last_good_answer); \
	fi

# The date of the last good answer, and whether it is about the lock file of now.
last_good_answer = \
	if [ -f $(AUDITED) ] && read -r day lock <$(AUDITED); then \
		[ "$$lock" = "$$(cksum <uv.lock | tr ' ' '-')" ] && of="this uv.lock" || of="another uv.lock"; \
		echo "The last good answer is of $$day, about $$of."; \
	else \
		echo "There was no good answer yet."; \
	fi

.PHONY: audit
audit: env
	@$(ask_for_advisories); \
	[ $$code -ne 3 ] || $(last_good_answer); \
	exit $$code

# For `make test`: what could not be checked is told at its end, and stops nothing.
.PHONY: audit-if-possible
audit-if-possible: env
	@$(ask_for_advisories); \
	echo $$code >$(AUDIT_OUTCOME); \
	[ $$code -ne 3 ] || { echo "Going on."; code=0; }; \
	exit $$code

.PHONY: chromium
chromium:
	@for browser in "$$CHROME" chromium chromium-browser google-chrome google-chrome-stable; do \
		[ -n "$$browser" ] && command -v "$$browser" >/dev/null 2>&1 && exit 0; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "The browser tests need Chromium: installing Debian's package …"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } >/dev/null && exit 0; \
	fi; \
	echo "No Chromium was found: the tests in tests/browser cannot run. Install it (Debian: apt-get install" ; \
	echo "chromium), or name one: CHROME=/path/to/chrome make …"

.PHONY: nemesis
nemesis: env
	@$(BIN)/python -m tests.nemesis $(ARGS)

.PHONY: bench
bench: env
	@$(BIN)/python -m benchmarks $(ARGS)

.PHONY: reference
reference: env
	@$(BIN)/python -m infra.config.reference

.PHONY: clean
clean:
	rm -rf $(VENV) $(TOOLS) build dist .coverage .coverage.* .hypothesis
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find core handlers infra tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
