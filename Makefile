# make sweep: the quickstart.  make test: everything.  make bench: against a loop over
# mace_run_train --lora.  All set up .venv first.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)

sweep: .venv/ready
	snakemake --cores all

test: .venv/ready lint
	pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/ready
	ruff format --check .
	ruff check .
	snakefmt --check Snakefile workflow/Snakefile rules
	mypy
	snakemake --lint

bench: .venv/ready
	python benchmarks/sweep.py

# the lock names torch first: its CPU or CUDA build decides what the rest resolves to
.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	pip install --quiet --disable-pip-version-check -r requirements.lock
	pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

.PHONY: sweep test lint bench
