#!/bin/sh
# Install the lock, every file checked by its hash, for the python that comes first in PATH.
# make runs it for .venv, and snakemake for a conda environment that it has just made.
set -eu
test -f requirements.lock || {
    echo "no requirements.lock here: start snakemake in the folder of mace-lora-sweep" >&2
    exit 2
}
pip() { python -m pip --disable-pip-version-check "$@"; }
# the lock is complete, so nothing is resolved, and nothing is fetched to build with
install() { pip install --quiet --no-deps --no-build-isolation "$@"; }

sed -n '/^setuptools==/,/[^\\]$/p' requirements.lock | install --require-hashes -r /dev/stdin
# torch's CPU build, where pip has an index with it; the CUDA build of PyPI otherwise
install --require-hashes -r requirements-cpu.lock 2>/dev/null || true
install --require-hashes -r requirements.lock
if pip check | grep '^torch .* requires' >&2; then
    echo "torch is a CUDA build: installing its libraries" >&2
    install --require-hashes -r requirements-cuda.lock
fi
install --editable .
pip check
