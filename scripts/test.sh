#!/bin/sh
# Installs everything for development into .venv-dev and runs the tests. Arguments go to pytest:
# `sh scripts/test.sh -m slow` runs the minutes-long ones.
set -eu
cd "$(dirname "$0")/.."
. scripts/venv.sh
need_venv .venv-dev
.venv-dev/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
    --editable '.[dev]'
exec .venv-dev/bin/python -m pytest "$@"
