# make sweep: the quickstart.  make test: lint, then every kind of test, in about 35 minutes on two
# cores.  make test-long: the campaigns of tests with their full counts; their last result is
# in docs/faults.md.  make docs: the site.  make bench: against a loop over mace_run_train --lora.
# All set up .venv first.
PYTHON ?= python3
PYTHONS := 3.11 3.12# of which the lock has files, as requires-python says in pyproject.toml
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
# four processes for two cores: those with Slurm, a server or a browser wait most of the time
SIDE_BY_SIDE := -n 4 --dist loadfile --no-loadscope-reorder

sweep: .venv/ready
	snakemake --cores all

test: .venv/ready lint
	pytest $(SIDE_BY_SIDE)

test-long: .venv/ready
	pytest $(SIDE_BY_SIDE) --counts full -m long

lint: .venv/ready
	ruff format --check .
	ruff check .
	snakefmt --check Snakefile workflow/Snakefile rules
	mypy
	snakemake --lint

docs: .venv/ready
	mkdocs build --strict

bench: .venv/ready
	python benchmarks/sweep.py

# there while packages are installed: pip takes one that was cut off for a whole one
HALF := .venv/half-made

# the version of $(PYTHON), asked only where .venv is made; "" where there is none
VERSION = $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)

.venv/ready: $(wildcard requirements*.lock) pyproject.toml envs/mace-lora.post-deploy.sh
	$(if $(filter $(PYTHONS),$(VERSION)),,$(error $(PYTHON) is $(if $(VERSION),Python \
	$(VERSION),not there): Python 3.11 or 3.12 is needed; install or load one, for example by \
	"module load python/3.11", and name it: make PYTHON=python3.11))
	$(PYTHON) -m venv .venv$(if $(wildcard $(HALF)), --clear)
	touch $(HALF)
	sh envs/mace-lora.post-deploy.sh
	rm $(HALF)
	touch $@

.PHONY: sweep test test-long lint docs bench
