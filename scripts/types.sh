#!/bin/sh
# Checks types, with the rooms where an installation puts them (scripts/rooms.sh): mypy finds them
# only there, and without that a call from one to another would go unchecked.
#   sh scripts/types.sh
set -eu
cd "$(dirname "$0")/.."
. scripts/rooms.sh
lay_out build/types
cd build/types
exec ../../.venv-dev/bin/mypy --config-file ../../pyproject.toml \
    --cache-dir ../../.mypy_cache/types allsub_edge
