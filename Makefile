# Two commands do everything: `make book` and `make test`.  `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENVIRONMENT := $(VENV)/.environment
INSTALLED := $(VENV)/.installed
BUILD := _build
HTML := $(BUILD)/html
BOOK := $(BUILD)/.book
CACHE_FRESH := $(BUILD)/.cache-fresh
KERNEL_CONFIG := $(BUILD)/ipython/profile_default/ipython_kernel_config.py
SERVE := $(BUILD)/serve

PACKAGE := $(shell find lib -name '*.py' -o -name '*.mplstyle' -o -name 'py.typed')
MEASURED := $(wildcard benchmarks/results/* experiments/results/*)
CONTENT := $(wildcard *.md appendices/*.md chapters/*.ipynb) _config.yml _toc.yml references.bib $(shell find _static -type f)
WORKERS ?= 2
PORT ?= 8000
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

export PYTHONDONTWRITEBYTECODE := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
# Kernels look here first: two settings that keep their start quiet.
export IPYTHONDIR := $(abspath $(BUILD)/ipython)
# Every computation here is on small matrices, where more threads only wait for each other.
export OPENBLAS_NUM_THREADS := 1
export CHROMIUM

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help book serve lab test lint types unit notebooks pages chromium bench lock clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- the environment -------------------------------------------------------------------------------------------------

$(ENVIRONMENT): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "This book needs Python 3.11 or later, and '$(PYTHON)' is $$(command -v $(PYTHON) > /dev/null && $(PYTHON) --version 2>&1 || echo missing): run make with PYTHON=/path/to/python3.11." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' has no venv module: install it (on Debian and Ubuntu: apt-get install python3-venv) and run make again." >&2; exit 1; }
	@echo "Installing the locked environment into $(VENV) (once, a minute or two)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock || { \
	  echo "The locked packages could not be installed (pip's reason is above): check the network and the free disk space, then run make again." >&2; exit 1; }
	@touch $@

$(INSTALLED): $(ENVIRONMENT) pyproject.toml
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --config-settings editable_mode=compat --editable . || { \
	  echo "The package in lib/ could not be installed (pip's reason is above): mend it, then run make again." >&2; exit 1; }
	@touch $@

$(KERNEL_CONFIG):
	@mkdir -p $(@D)
	@echo 'c.IPKernelApp.log_level = "ERROR"' > $@

# --- the book --------------------------------------------------------------------------------------------------------

book: $(BOOK)  ## build the book, warnings as errors, and print the page to open
	@echo "The book is built. Open file://$(abspath $(HTML))/index.html"

# The notebook cache knows the cells but not what they import and read, so a change of package, environment or results empties it.
$(CACHE_FRESH): $(ENVIRONMENT) $(PACKAGE) $(MEASURED)
	@rm -rf $(BUILD)/.jupyter_cache $(SERVE)/.doctrees
	@mkdir -p $(@D) && touch $@

# From a clean output folder each time: on a stale one Sphinx does not repeat its warnings.
$(BOOK): $(INSTALLED) $(CACHE_FRESH) $(CONTENT) $(KERNEL_CONFIG)
	@rm -rf $(HTML) $(BUILD)/.doctrees
	@$(BIN)/jupyter-book build -W -n --keep-going --quiet . > /dev/null || { \
	  echo "The book did not build: the warnings above are errors here, and each names its file." >&2; exit 1; }
	@touch $@

# Jupyter Book has no live reload and Sphinx's needs a conf.py: it is generated, and kept out of the way.
serve: $(INSTALLED) $(CACHE_FRESH) $(KERNEL_CONFIG)  ## show the book at http://localhost:8000 (or PORT=…), rebuilt at every edit
	@mkdir -p $(SERVE) && ln -sfn $(CURDIR)/_static $(CURDIR)/references.bib $(SERVE)
	@$(BIN)/jupyter-book config sphinx . > /dev/null && mv conf.py $(SERVE)/conf.py
	@$(BIN)/sphinx-autobuild --quiet --port $(PORT) --pre-build '$(MAKE) --silent $(CACHE_FRESH)' --re-ignore '$(CURDIR)/(\.|_build|build|tests)' \
	  -c $(SERVE) -d $(SERVE)/.doctrees -D nb_execution_cache_path=$(CURDIR)/$(BUILD)/.jupyter_cache . $(SERVE)/html

lab: $(INSTALLED) $(KERNEL_CONFIG)  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir=chapters

# --- the checks ------------------------------------------------------------------------------------------------------

test: lint types unit notebooks pages  ## everything that CI checks
	@echo "All checks passed."

lint: $(INSTALLED)  ## ruff on code and notebooks, stripped notebooks, workflows
	@$(BIN)/ruff format --check --quiet . || { echo "Some files are not formatted: run '$(BIN)/ruff format'." >&2; exit 1; }
	@$(BIN)/ruff check .
	@$(BIN)/nbstripout --verify --keep-id chapters/*.ipynb || { echo "A notebook has outputs: run '$(BIN)/nbstripout --keep-id chapters/*.ipynb'." >&2; exit 1; }
	@$(BIN)/actionlint .github/workflows/*.yml
	@$(BIN)/zizmor --quiet --offline --no-progress .github/workflows

types: $(INSTALLED)  ## the type checker, strict
	@$(BIN)/mypy

unit: $(INSTALLED)  ## the package: unit and property tests, doctests, coverage
	@$(BIN)/pytest -n $(WORKERS) --doctest-modules --cov=deadly_triad --cov-report=term tests/package lib/deadly_triad

notebooks: $(INSTALLED) $(KERNEL_CONFIG)  ## run every notebook
	@$(BIN)/pytest -n $(WORKERS) --nbmake --nbmake-kernel=python3 --nbmake-timeout=600 chapters

pages: $(BOOK) chromium  ## the house rules, the numbers in the chapters, the pages in a browser
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal --cov=deadly_triad_book --cov-report=term tests/book

chromium:
	@test -n "$(CHROMIUM)" || { test "$$(id -u)" = 0 && command -v apt-get > /dev/null && apt-get update -qq && apt-get install -qq -y chromium > /dev/null; } || { \
	  echo "The browser tests need Chromium and it is not here: install it (on Debian: sudo apt-get install chromium) and run make test again." >&2; exit 1; }

# --- speed -----------------------------------------------------------------------------------------------------------

bench: $(INSTALLED)  ## measure kernel, solver and update against rivals, into benchmarks/results (minutes, not part of test)
	@$(BIN)/python -u benchmarks/bench.py

# --- upkeep ----------------------------------------------------------------------------------------------------------

lock: $(INSTALLED)  ## renew requirements.lock from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade \
	  --custom-compile-command 'make lock' --group dev pyproject.toml -o requirements.lock

clean:  ## remove everything that make has made
	@rm -rf $(VENV) $(BUILD) build .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache lib/*.egg-info
