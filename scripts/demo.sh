#!/bin/sh
# From nothing to an answer: installs the device's small base into .venv, draws one artificial
# field, and lets the shipped model read it. Fields given as arguments are read instead.
set -eu
cd "$(dirname "$0")/.."
. scripts/venv.sh
need_venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt .
if [ "$#" -eq 0 ]; then
    .venv/bin/allsub-edge render out/field.png --seed 1 --label Pre
    set -- out/field.png
fi
exec .venv/bin/allsub-edge infer "$@"
