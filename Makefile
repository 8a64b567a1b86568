# `make demo`   from nothing to a cited answer        `make test`   from nothing to a test run
# `make check`  lint, format, types                   `make clean`  take the environment and the local home away
#
# Each sets up what it needs in .venv and .home and does nothing twice. PYTHON3 names another interpreter (3.11 or later);
# SELFRAG_HOME another place for the model and the collections.

PYTHON3 ?= python3
VENV := .venv
BIN := $(VENV)/bin
export SELFRAG_HOME ?= $(CURDIR)/.home
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check install dev model clean

demo: install
	$(BIN)/selfrag demo

test: dev model
	$(BIN)/python -m pytest -m "not vllm"

check: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/installed.stamp
dev: $(VENV)/dev.stamp
model: $(SELFRAG_HOME)/model.stamp

# torch first: its own wheel is chosen once, before anything that depends on it.
$(VENV)/installed.stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON3) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "torch<2.14"
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/dev.stamp: $(VENV)/installed.stamp
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

$(SELFRAG_HOME)/model.stamp: $(VENV)/installed.stamp $(wildcard selfrag/models/*)
	$(BIN)/selfrag models pull smollm2-135m-selfrag
	mkdir -p $(SELFRAG_HOME) && touch $@

clean:
	rm -rf $(VENV) .home
