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

.venv/ready: $(wildcard requirements*.lock) pyproject.toml envs/mace-lora.post-deploy.sh
	$(PYTHON) -m venv .venv
	sh envs/mace-lora.post-deploy.sh
	touch $@

.PHONY: sweep test lint bench
