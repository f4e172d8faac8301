#!/bin/sh
# Checks types, with the rooms where an installation puts them: `export` and `benchmarks` are
# `allsub_edge.export` and `allsub_edge.benchmarks`, which mypy finds only if they lie there, and
# without that a call from one to another would go unchecked.
#   sh scripts/types.sh
set -eu
cd "$(dirname "$0")/.."
place=build/types
rm -rf "$place"
mkdir -p "$place"
cp -R allsub_edge "$place/"
cp -R export benchmarks "$place/allsub_edge/"
cd "$place"
exec ../../.venv-dev/bin/mypy --config-file ../../pyproject.toml \
    --cache-dir ../../.mypy_cache/types allsub_edge
