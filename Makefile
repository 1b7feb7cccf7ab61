# Two commands do everything: `make book` and `make test`.  `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READER := $(VENV)/.reader
DEVELOPER := $(VENV)/.developer
INSTALLED := $(VENV)/.installed
BUILD := _build
HTML := $(BUILD)/html
BOOK := $(BUILD)/.book
READY := $(BUILD)/.ready
SERVE := $(BUILD)/serve

PACKAGE := $(shell find lib -name '*.py' -o -name '*.html' -o -name '*.js' -o -name '*.mjs' -o -name '*.yml' -o -name 'py.typed')
MEASURED := $(wildcard benchmarks/results/*.* experiments/results/*.*)
CONTENT := $(wildcard *.md appendices/*.md appendices/*.yml chapters/*.ipynb) _config.yml _toc.yml references.bib $(shell find _static -type f)
WORKERS ?= 2
PORT ?= 8000
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help book pdf archive serve lab test lint types unit setup notebooks pages adapters chromium bench experiments experiments-status experiments-tables experiments-worker lock clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- the surroundings ------------------------------------------------------------------------------------------------

# Of all that the environment sets, this alone reaches a command: where programs are, who is asking, how to reach a package index through
# what is between, a repository's name, a screen. Libraries read hundreds of other variables, and each could make another book.
KEPT := PATH HOME USER LOGNAME SHELL TERM TMPDIR LD_LIBRARY_PATH DYLD_LIBRARY_PATH CI GITHUB_% MAKE% \
  http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE \
  PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_CERT PIP_CLIENT_CERT PIP_PROXY PIP_DEFAULT_TIMEOUT PIP_RETRIES PIP_NO_INDEX PIP_FIND_LINKS \
  PIP_CONFIG_FILE PIP_CACHE_DIR PIP_NO_CACHE_DIR UV_INDEX UV_DEFAULT_INDEX UV_INDEX_URL UV_EXTRA_INDEX_URL UV_NO_INDEX UV_FIND_LINKS UV_CACHE_DIR \
  UV_OFFLINE UV_NATIVE_TLS UV_SYSTEM_CERTS UV_HTTP_TIMEOUT UV_INSECURE_HOST OPENBLAS_CORETYPE OPENBLAS_L2_SIZE \
  DISPLAY WAYLAND_DISPLAY XAUTHORITY XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS BROWSER
$(foreach name,$(filter-out $(KEPT),$(.VARIABLES)),$(if $(filter environment%,$(origin $(name))),$(eval unexport $(name))))

ifndef HOME
export HOME := $(CURDIR)/$(BUILD)/home
endif
export LC_ALL := C
export PYTHONUTF8 := 1
export PYTHONNOUSERSITE := 1
# A graphics card, seen or only hinted at, changes neither numbers nor what is printed.
export JAX_PLATFORMS := cpu
# Every computation here is on small matrices, where more threads only wait for each other; and their number may not change a sum.
export XLA_FLAGS := --xla_cpu_multi_thread_eigen=false
export OPENBLAS_NUM_THREADS := 1
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export VECLIB_MAXIMUM_THREADS := 1
export MPLBACKEND := module://matplotlib_inline.backend_inline
export MPLCONFIGDIR := $(CURDIR)/$(BUILD)/matplotlib
# Kernels, and their settings, are those of the environment.
export IPYTHONDIR := $(CURDIR)/$(BUILD)/ipython
export JUPYTER_CONFIG_DIR := $(CURDIR)/$(BUILD)/jupyter
export JUPYTER_DATA_DIR := $(CURDIR)/$(BUILD)/jupyter
export JUPYTER_RUNTIME_DIR := $(CURDIR)/$(BUILD)/jupyter/runtime
export JUPYTER_PLATFORM_DIRS := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export CHROMIUM
export WORKERS

# --- the environment -------------------------------------------------------------------------------------------------

# One that is broken, or of another Python than the one that is asked for, is made anew. What make itself asks gets the whole environment.
ifneq (,$(wildcard $(READER)))
ifneq (,$(shell $(if $(filter command% environment%,$(origin PYTHON)),$(PYTHON),$(BIN)/python) -I .ci/install.py --stale $(VENV) > /dev/null 2>&1; test $$? -eq 1 || echo stale))
$(shell rm -f $(READER) $(DEVELOPER))
endif
endif

# What building the book needs.
$(READER): requirements-book.lock .ci/install.py .ci/uv.lock
	@test -w . || { echo "This folder cannot be written to, and the environment and the book go into it: copy it to one that can be, or clone it there." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "This book needs Python 3.11 or later, and '$(PYTHON)' is $$(command -v $(PYTHON) > /dev/null && $(PYTHON) --version 2>&1 || echo missing): run make with PYTHON=/path/to/python3.11." >&2; exit 1; }
	@$(PYTHON) .ci/install.py $(VENV) requirements-book.lock
	@touch $@

# What checking and changing it needs on top.
$(DEVELOPER): requirements.lock tests/setup/oldest_pip.lock tests/setup/newest_pip.lock $(READER)
	@$(PYTHON) .ci/install.py $(VENV) requirements.lock
	@for lock in tests/setup/oldest_pip.lock tests/setup/newest_pip.lock .ci/uv.lock; do \
	  $(BIN)/python -m pip download -qq --disable-pip-version-check --no-deps --require-hashes --dest $(VENV)/wheels/$$(basename $$lock .lock) -r $$lock || exit 1; done
	@touch $@

$(INSTALLED): $(READER) pyproject.toml
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --config-settings editable_mode=compat --editable . || { \
	  echo "The package in lib/ could not be installed (pip's reason is above): mend it, then run make again." >&2; exit 1; }
	@touch $@

# Two things that would be printed where a chapter may not print: a kernel's warning at its start, and Matplotlib's of a slow first one.
$(READY): $(READER)
	@mkdir -p $(BUILD)/ipython/profile_default
	@echo 'c.IPKernelApp.log_level = "ERROR"' > $(BUILD)/ipython/profile_default/ipython_kernel_config.py
	@$(BIN)/python -c 'import matplotlib.font_manager' 2> /dev/null
	@touch $@

# --- the book --------------------------------------------------------------------------------------------------------

book: $(BOOK)  ## build the book, warnings as errors, and print the page to open
	@$(BIN)/python -c 'import pathlib; print("The book is built. Open", pathlib.Path("$(HTML)/index.html").resolve().as_uri())'

# From a clean output folder each time: on a stale one Sphinx does not repeat its warnings.
$(BOOK): $(INSTALLED) $(READY) $(PACKAGE) $(MEASURED) $(CONTENT)
	@$(BIN)/python -m deadly_triad_book.execution
	@rm -rf $(HTML) $(BUILD)/.doctrees
	@test ! -t 2 || echo "Typesetting the pages (half a minute)"
	@$(BIN)/jupyter-book build -W -n --keep-going --quiet . > /dev/null || { \
	  echo "The book did not build: the warnings above are errors here, and each names its file." >&2; exit 1; }
	@touch $@

pdf: $(DEVELOPER) $(BOOK) chromium  ## the book as one PDF, with bookmarks (Chromium prints it)
	@$(BIN)/python -m deadly_triad_book.printing

archive: $(BOOK)  ## the built pages as one zip, to read them without a network
	@$(BIN)/python -c 'import shutil; print("The archive is", shutil.make_archive("$(BUILD)/when-q-learning-diverges", "zip", "$(HTML)"))'

# Jupyter Book has no live reload and Sphinx's needs a conf.py: it is generated, and kept out of the way.
serve: $(DEVELOPER) $(INSTALLED) $(READY)  ## show the book at http://localhost:8000 (or PORT=…), rebuilt at every edit
	@mkdir -p $(SERVE) && ln -sfn "$(CURDIR)/_static" "$(CURDIR)/references.bib" $(SERVE)
	@$(BIN)/jupyter-book config sphinx . > /dev/null && mv conf.py $(SERVE)/conf.py
	@$(BIN)/sphinx-autobuild --quiet --port $(PORT) --pre-build '$(BIN)/python -m deadly_triad_book.execution' \
	  --re-ignore "$$($(BIN)/python -c 'import os, re; print(re.escape(os.getcwd()))')/(\.|_build|build|tests)" \
	  -c $(SERVE) -d $(SERVE)/.doctrees -D nb_execution_cache_path="$(CURDIR)/$(BUILD)/.jupyter_cache" . $(SERVE)/html

lab: $(DEVELOPER) $(INSTALLED) $(READY)  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir=chapters

# --- the checks ------------------------------------------------------------------------------------------------------

test: lint types unit setup pages  ## everything that CI checks
	@echo "All checks passed."

lint: $(DEVELOPER)  ## ruff on code and notebooks, stripped notebooks, workflows
	@$(BIN)/ruff format --check --quiet . || { echo "Some files are not formatted: run '$(BIN)/ruff format'." >&2; exit 1; }
	@$(BIN)/ruff check .
	@$(BIN)/nbstripout --verify --keep-id chapters/*.ipynb || { echo "A notebook has outputs: run '$(BIN)/nbstripout --keep-id chapters/*.ipynb'." >&2; exit 1; }
	@$(BIN)/actionlint .github/workflows/*.yml
	@$(BIN)/zizmor --quiet --offline --no-progress .github/workflows

types: $(DEVELOPER) $(INSTALLED)  ## the type checker, strict
	@$(BIN)/mypy

unit: $(DEVELOPER) $(INSTALLED)  ## the package: unit and property tests, doctests, coverage
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal --doctest-modules --cov=deadly_triad --cov-report=term --cov-fail-under=100 tests/package lib/deadly_triad

setup: $(DEVELOPER) $(INSTALLED) $(READY)  ## the set-up: installing with old and new pip, odd folders, hostile surroundings, a wheel
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal tests/setup

notebooks: $(INSTALLED) $(READY)  ## run the notebooks whose code, or what it computes with, has changed
	@$(BIN)/python -m deadly_triad_book.execution

pages: $(DEVELOPER) $(BOOK) chromium  ## the house rules, the numbers in the chapters, the pages in a browser
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal --cov=deadly_triad_book --cov-report=term --cov-fail-under=90 tests/book

chromium:
	@test -n "$(CHROMIUM)" || { test "$$(id -u)" = 0 && command -v apt-get > /dev/null && { \
	    echo "The browser tests need Chromium: installing the system package chromium with apt-get. To do without, run make with CHROMIUM=/path/to/a/chrome."; \
	    apt-get update -qq && apt-get install -qq -y chromium > /dev/null; }; } || { \
	  echo "The browser tests need Chromium and it is not here: install it (on Debian: sudo apt-get install chromium), or run make with CHROMIUM=/path/to/a/chrome; 'make lint types unit setup book' checks all but the pages." >&2; exit 1; }

adapters: $(READER)  ## the adapters of PyTorch and stable-baselines3, in an environment of its own (several GB, not part of test)
	@$(PYTHON) .ci/install.py $(BUILD)/torch requirements-torch.lock
	@PYTHONPATH=lib DEADLY_TRIAD_REQUIRE=torch,sb3 $(BUILD)/torch/bin/python -m pytest --doctest-modules tests/package/test_adapters_torch.py tests/package/test_adapters_sb3.py lib/deadly_triad/adapters

# --- speed -----------------------------------------------------------------------------------------------------------

bench: $(DEVELOPER) $(INSTALLED)  ## measure kernel, solver and update against rivals, into benchmarks/results (minutes, not part of test)
	@$(BIN)/python -u benchmarks/bench.py

# --- long runs -------------------------------------------------------------------------------------------------------

# What they are told, they are told on the command line: EXPERIMENT, STAGE, ONLY, SCHEDULER, RESULTS, INTO, SCRATCH. See experiments/README.md.
EXPERIMENT := control
told = $(if $(filter command,$(origin $1)),--$2 '$($1)')
RUNNER = $(BIN)/python -u experiments/runner.py experiments/$(EXPERIMENT).py $(call told,STAGE,stage) $(call told,ONLY,only) \
  $(call told,SCHEDULER,scheduler) $(call told,RESULTS,results) $(call told,INTO,into) $(call told,SCRATCH,scratch)

experiments: $(DEVELOPER) $(INSTALLED)  ## run what an experiment has no result of yet (hours; STAGE=tuning, ONLY=Hopper-v5, WORKERS=2, SCHEDULER=tcp://…)
	@$(RUNNER)

experiments-status: $(DEVELOPER) $(INSTALLED)  ## say how far the experiments are
	@$(RUNNER) --status

experiments-tables: $(DEVELOPER) $(INSTALLED)  ## sum their runs up in the tables that chapters read
	@$(BIN)/python experiments/$(EXPERIMENT)_summary.py

experiments-worker: $(DEVELOPER) $(INSTALLED)  ## as many workers as WORKERS says for the scheduler at SCHEDULER
	@$(BIN)/dask worker '$(SCHEDULER)' --nworkers $(WORKERS) --nthreads 1 --name $$$$ --memory-limit 0 --no-dashboard --local-directory $(BUILD)/dask

# --- upkeep ----------------------------------------------------------------------------------------------------------

lock:  ## renew the locks from pyproject.toml
	@$(PYTHON) .ci/install.py --lock

clean:  ## remove everything that make has made
	@rm -rf $(VENV) $(BUILD) build .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache lib/*.egg-info
