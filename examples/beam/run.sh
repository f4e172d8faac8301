#!/bin/sh
# Installs Beam and this project into examples/beam/.venv once; then `run.sh test` runs the tests,
# and anything else goes to score.py: sh examples/beam/run.sh --fields ARCHIVE --output RESULTS
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$root/scripts/venv.sh"
venv="$here/.venv"
if [ ! -e "$venv/ready" ]; then
    need_venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        -r "$here/requirements.txt"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --editable "$root"
    touch "$venv/ready"
fi
if [ "${1:-}" = test ]; then
    shift
    cd "$root"
    exec "$venv/bin/python" -m pytest -p no:cacheprovider tests/examples/test_beam.py "$@"
fi
exec "$venv/bin/python" "$here/score.py" "$@"
