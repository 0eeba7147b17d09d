# recspark from nothing: `make demo` or `make test`. Each does what it needs (environment, Horovod, Java, data) and, the
# second time, nothing of that.

.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3.11
ARGS ?=
BIN := .venv/bin
WITH_JAVA := sh tools/java.sh

# Stamps; each is written last, so that what was interrupted is done again.
PACKAGES := .venv/.packages
HOROVOD := .venv/.horovod
READY := .venv/.ready
PEERS := .venv-peers/.ready
CLASSES := .venv/spark-classes.jsa

.PHONY: help setup preflight peers data demo airflow-demo chaos week package cluster-demo test bench bench-preprocess bench-topk bench-ann bench-encode bench-train bench-factorize bench-evaluate bench-night bench-workers bench-scaling bench-prefix bench-adaptations quality check lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) data ## environment, Horovod, Java and the demo's data; about 7 minutes the first time on a machine

demo: setup ## the whole nightly run on MovieLens-100K, and what it says to one user
	$(WITH_JAVA) $(BIN)/recspark run --config conf/demo.yaml
	$(WITH_JAVA) $(BIN)/recspark show user 196 --config conf/demo.yaml
	@echo "report: $$(find lake -name report.html -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2)"

airflow-demo: setup ## the nightly DAG by Airflow, two dates on the demo's data, through spark-submit; about 15 minutes
	$(WITH_JAVA) $(BIN)/python tools/airflow_demo.py

test: setup $(CLASSES) ## all tests; make test ARGS="-k lake -x" hands arguments to pytest
	$(WITH_JAVA) $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25 $(ARGS)

chaos: setup ## small nights with a fault each at a random moment, and run again; 20 take about an hour, or ARGS="--at-once 2" half of it
	$(WITH_JAVA) $(BIN)/python -m tests.faults.chaos $(ARGS)

package: setup ## dist/: the wheel, and an environment that runs where it is unpacked, for --archives; about 4 minutes, 1 GB
	@$(BIN)/python tools/package.py

cluster-demo: package ## a Spark cluster on this machine, and the demo's night on it, shortened, from the packed environment, twice; 15 to 30 minutes
	$(WITH_JAVA) $(BIN)/python tools/cluster_demo.py

week: setup ## seven nights on a log that arrives by the day, one of them killed, beside a lake without them; about 10 minutes
	$(WITH_JAVA) $(BIN)/python -m tests.faults.week $(ARGS)

bench: bench-preprocess bench-topk bench-ann bench-encode bench-train bench-factorize bench-evaluate bench-workers ## the same work by ours and by peers; hours; make bench ARGS=--quick only sees that all runs and agrees
	@$(BIN)/python benchmarks/table.py

bench-preprocess: setup ## a raw log to clean, split, tokenised tables: pandas; to 30 million events
	$(WITH_JAVA) $(BIN)/python benchmarks/preprocess.py $(ARGS)

bench-topk: setup ## every user's best items: Spark's ALS, FAISS
	$(WITH_JAVA) $(BIN)/python benchmarks/topk.py $(ARGS)

bench-ann: setup ## lists by the index: the exact ones, FAISS's inverted file
	$(WITH_JAVA) $(BIN)/python benchmarks/ann.py $(ARGS)

bench-encode: setup ## texts to vectors: sentence-transformers, Spark's predict_batch_udf; RECSPARK_DATASETS names the data sets
	$(WITH_JAVA) $(BIN)/python benchmarks/encode.py $(ARGS)

bench-factorize: setup ## implicit factors: Spark's ALS, implicit; RECSPARK_DATASETS as above
	$(WITH_JAVA) $(BIN)/python benchmarks/factorize.py $(ARGS)

bench-train: setup peers ## examples a second: the plain way, sentence-transformers' trainer; what two ranks gain; RECSPARK_DATASETS as above
	$(WITH_JAVA) $(BIN)/python benchmarks/train.py $(ARGS)

bench-evaluate: setup peers ## lists judged: recommenders, RePlay, ranx; what cannot be installed is left out
	$(WITH_JAVA) $(BIN)/python benchmarks/evaluate.py $(ARGS)

bench-night: setup ## the demo by stage, beside last time; a second night beside the first; about 15 minutes
	$(WITH_JAVA) $(BIN)/python benchmarks/night.py $(ARGS)

bench-workers: setup ## small Python tasks one after the other: Spark's own worker daemon; about 5 minutes
	$(WITH_JAVA) $(BIN)/python benchmarks/workers.py $(ARGS)

bench-scaling: setup ## how seconds grow with the input, three sizes a stage and a fourth that is told; about 15 minutes
	$(WITH_JAVA) $(BIN)/python benchmarks/scaling.py $(ARGS)

bench-prefix: setup ## how much faster an epoch is with the frozen layers' states kept; about 3 minutes
	$(WITH_JAVA) $(BIN)/python benchmarks/prefix.py

quality: setup ## the lists beside published tables, three seeds each; hours; RECSPARK_DATASETS names the data sets
	$(WITH_JAVA) $(BIN)/python benchmarks/quality.py $(ARGS)

bench-adaptations: setup ## what each way to fine-tune costs and gives, on two data sets; hours
	$(WITH_JAVA) $(BIN)/python benchmarks/adaptations.py conf/demo.yaml conf/quality/amazon-office.yaml $(ARGS)

check: $(PACKAGES) ## lint, format, types, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy recspark jobs tools
	@if grep -q '^\[tool.importlinter' pyproject.toml; then set -x; $(BIN)/lint-imports; fi

lock: ## resolve requirements.in anew into requirements.lock
	@$(PYTHON) tools/make_lock.py

clean: ## remove what set-up and tools made in this folder; the lake and the machine's Horovod cache stay
	rm -rf .venv .venv-peers .venv-airflow .airflow-demo .cluster-demo .data build dist recspark.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf spark-warehouse metastore_db derby.log
	find recspark jobs tests tools benchmarks -name __pycache__ -prune -exec rm -rf {} +

# What only peers of the benchmarks want.
peers: $(PACKAGES)
	@[ $(PEERS) -nt benchmarks/peers.txt ] || $(BIN)/python tools/make_peers.py || echo "the benchmarks go on without"

# What can be missing, Java or a compiler, is said before the long installation.
preflight:
	@$(WITH_JAVA)
	@if [ ! -e $(HOROVOD) ]; then \
	    command -v $(PYTHON) >/dev/null || { echo "set-up: no $(PYTHON): install it, or make PYTHON=/path/to/3.11 ..."; exit 1; }; \
	    $(PYTHON) tools/build_horovod.py --preflight; \
	fi

data: $(PACKAGES)
	@$(BIN)/python tools/fetch_demo_data.py

$(PACKAGES): requirements.lock tools/make_venv.py | preflight
	@$(PYTHON) tools/make_venv.py

$(HOROVOD): $(PACKAGES) tools/horovod.txt tools/build_horovod.py
	@$(BIN)/python tools/build_horovod.py
	@touch $@

$(CLASSES): $(PACKAGES) tests/class_archive.py | $(READY)
	@$(WITH_JAVA) $(BIN)/python -m tests.class_archive

$(READY): $(HOROVOD) setup.py recspark/__init__.py tools/check_set.py
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
	@$(BIN)/python tools/check_set.py
	@touch $@
