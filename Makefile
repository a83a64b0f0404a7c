# Everything a fresh Debian 12 or 13 lacks is installed by the targets that need it; a second run finds it done.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PACKAGES := python3-venv python3-bpfcc iproute2 util-linux nftables conntrack procps kmod ca-certificates \
            clang llvm libbpf-dev bpftool musl-tools containernetworking-plugins
PYTHON := /usr/bin/python3
BIN := .venv/bin
PROGRAMS := build/bpf/from_pod.bpf.o build/bpf/to_pod.bpf.o
CODE := common operator nodeagent lab schema tests bench

.PHONY: help venv bpf controlplane helm crds demo demo-down test lint bench clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
	  printf '  make %-12s %s\n' "$$name" "$$text"; done

venv: .venv/.installed ## Debian packages and .venv, from the lock file with hashes

build/.packages: Makefile
	@mkdir -p build
	@missing=$$(for p in $(PACKAGES); do dpkg -s $$p 2>/dev/null | grep -q '^Status: install ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "== Debian packages:" $$missing; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >build/apt.log 2>&1 \
	    || { tail -n 20 build/apt.log; exit 1; }; \
	fi
	@touch $@

# Over Debian's own Python, because Debian's bcc (not PyPI's package of that name) is bound to it.
.venv/.installed: build/.packages requirements.lock pyproject.toml
	@echo "== Python packages into .venv"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv --system-site-packages .venv
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

bpf: build/.packages ## the eBPF programs and the CNI plugin
	@$(MAKE) --no-print-directory -C nodeagent/bpf
	@$(MAKE) --no-print-directory -C nodeagent/cni

controlplane: venv ## etcd, kube-apiserver and the rest: found on the PATH, or built once (6 to 9 minutes) and cached
	@$(BIN)/python -m tortie.lab.build

helm: venv ## Helm, for the chart's tests: built once (2 minutes) and cached
	@$(BIN)/python tests/chart/build.py

crds: venv ## the CRDs that are made from parts, see schema/
	@$(BIN)/python schema/generate.py

demo: venv bpf controlplane ## a cluster of three nodes on this machine, an application on it, and policy in force on that
	@$(BIN)/python -m tortie.lab.demo

demo-down: ## remove the demo's cluster
	@[ ! -x $(BIN)/tortie ] || $(BIN)/tortie lab down --name demo

test: venv bpf controlplane helm lint ## all tests: unit, property, real kernel, real cluster
	@$(BIN)/python -m pytest

lint: venv ## ruff, mypy --strict and the contracts between layers
	@$(BIN)/ruff check -q $(CODE) && $(BIN)/ruff format -q --check $(CODE)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --config .importlinter

bench: venv bpf controlplane ## measured figures beside their budgets; writes bench/results.jsonl
	@$(BIN)/python -m bench

clean: ## remove what was built here (packages and the cached control plane stay)
	@rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
