# Everything a checkout needs, from python3 (3.11 or newer) and make alone: `make demo`, `make test`, `make help`.
SHELL := /bin/sh
VENV := .venv
PYTHON := $(VENV)/bin/python
DEMO := isograft-demo
# Two processes share the machine's cores, so each gets one thread; nothing here reaches for the network while tests run.
PYTEST := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(PYTHON) -m pytest --durations 25 -n 2 --dist loadfile

.PHONY: help venv dev demo test check lint format docs bench bench-quick bench-peers pin wheel sbom advisories clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile

venv: $(VENV)/.installed  ## make .venv and install isograft with the tested versions

dev: $(VENV)/.developing

demo: venv  ## the whole story on synthetic images, with a report in isograft-demo/
	rm -rf $(DEMO)
	$(VENV)/bin/isograft demo --out $(DEMO)

test: lint  ## everything: lint, types, unit tests, integration and page tests
	$(PYTEST) tests

check: lint  ## lint, types and unit tests
	$(PYTEST) tests/unit

lint: dev  ## ruff and mypy
	$(PYTHON) -m ruff check src tests benchmarks tools
	$(PYTHON) -m ruff format --check src tests benchmarks tools
	$(PYTHON) -m mypy

format: dev  ## rewrite the code in the project's format
	$(PYTHON) -m ruff check --fix src tests benchmarks tools
	$(PYTHON) -m ruff format src tests benchmarks tools

docs: dev  ## rewrite what is generated from the settings: the command reference and the type stub
	$(PYTHON) tools/generate.py

bench: dev  ## all benchmarks but the longest into benchmarks/RESULTS.md: hours, may be stopped and continued (BENCH='--only NAME')
	$(PYTHON) benchmarks/run_all.py $(BENCH)

bench-quick: dev  ## every benchmark at its smallest size, in minutes, into .bench: whether they run
	$(PYTHON) benchmarks/run_all.py --quick $(BENCH)

bench-peers: dev  ## install the tools that benchmarks compare with, each in an environment of its own below ~/.cache/isograft
	$(PYTHON) benchmarks/peers.py --install lightly-train imagededup

pin: dev  ## rewrite constraints.txt from what is installed
	$(PYTHON) tools/pin.py > constraints.txt.new && mv constraints.txt.new constraints.txt

wheel: dev  ## the wheel of the last commit in dist/, with the same bytes wherever it is built
	$(PYTHON) tools/build_wheel.py

sbom: dev  ## the list of installed packages (CycloneDX) in dist/, and a check of their licences
	$(PYTHON) tools/sbom.py

advisories: dev  ## ask a vulnerability service about the pinned packages
	$(PYTHON) tools/advisories.py

clean:  ## remove .venv, the demo and all caches of tools
	rm -rf $(VENV) $(DEMO) .mypy_cache .ruff_cache .pytest_cache .hypothesis .bench dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@for name in python3 python3.13 python3.12 python3.11; do \
	  if command -v $$name >/dev/null 2>&1 && $$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$($$name --version)"; exec $$name -m venv $(VENV); \
	  fi; \
	done; \
	echo "isograft needs Python 3.11 or newer with its venv module (on Debian: apt-get install python3-venv)" >&2; exit 1

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[onnx,serve]'
	@touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
