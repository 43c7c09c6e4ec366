# `make demo` and `make test` set everything up; they need only Python 3.10 or later and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DENSE := $(VENV)/.dense

.PHONY: help install dense demo demo-seg demo-det docs test test-all fuzz lint format clean
.DEFAULT_GOAL := help

help:  ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */make \1\t/' | expand -t 16

install: $(INSTALLED)  ## make .venv and install the package with PaddlePaddle (CPU) and the tools

# uv where there is one, else the standard library's venv and pip.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 10) else f"Python {v[0]}.{v[1]} found; 3.10 or later is needed: make PYTHON=python3.11 …")'
	@if command -v uv >/dev/null 2>&1; then \
	    [ -x $(BIN)/python ] || uv venv --quiet --python "$(PYTHON)" $(VENV); \
	    uv pip install --quiet --python $(BIN)/python -e '.[cpu,test]'; \
	else \
	    [ -x $(BIN)/pip ] || $(PYTHON) -m venv --clear $(VENV); \
	    $(BIN)/pip install --quiet --disable-pip-version-check -e '.[cpu,test]'; \
	fi
	@touch $@

# The engines' pins contradict each other and Paddle 3, so they come without what they ask for.
dense: $(DENSE)  ## add PaddleSeg and PaddleDetection, for segmentation and detection

$(DENSE): requirements/dense.txt requirements/dense-engines.txt $(INSTALLED)
	@if command -v uv >/dev/null 2>&1; then \
	    uv pip install --quiet --python $(BIN)/python -r requirements/dense.txt && \
	    uv pip install --quiet --python $(BIN)/python --no-deps -r requirements/dense-engines.txt; \
	else \
	    $(BIN)/pip install --quiet --disable-pip-version-check -r requirements/dense.txt && \
	    $(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements/dense-engines.txt; \
	fi
	@$(BIN)/python -m cyclemlp.dense.versions
	@touch $@

demo: $(INSTALLED)  ## train a small CycleMLP on handwritten digits and show what it learnt
	@$(BIN)/python examples/demo.py

demo-seg: $(DENSE)  ## compose scenes from the digits, train a segmentation model on them and draw what it found
	@$(BIN)/python examples/demo_dense.py seg

demo-det: $(DENSE)  ## the same for detection, with boxes and masks
	@$(BIN)/python examples/demo_dense.py det

# Any warning ends it: a link or an anchor that leads nowhere, a page that is not in the navigation. The tests do it too.
docs: $(INSTALLED)  ## build the documentation site into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# A file's tests run in one process, which makes what they share once.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile

test: $(DENSE) lint  ## check the style, the types, the walls, and run the quick tests
	$(PYTEST) -m "not heavy"

test-all: $(DENSE) lint  ## the same with the tests that take minutes
	$(PYTEST)

# Atheris needs Python 3.11 or later.
SECONDS ?= 60
fuzz: $(DENSE)  ## feed damaged files to whatever reads files, a minute a target (SECONDS=60 TARGETS="pickle image")
	@if command -v uv >/dev/null 2>&1; then \
	    uv pip install --quiet --python $(BIN)/python -r requirements/fuzz.txt; \
	else \
	    $(BIN)/pip install --quiet --disable-pip-version-check -r requirements/fuzz.txt; \
	fi
	@$(BIN)/python fuzz/run.py --seconds $(SECONDS) $(TARGETS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)  ## put the code into the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv, site and caches; runs/ stays
	rm -rf $(VENV) site .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
