#!/bin/sh
# Measures everything that docs/performance.md shows, on this machine, and writes it into the page:
#   sh scripts/performance.sh DENSENET.onnx PLAIN.onnx MODEL...
# DENSENET.onnx: made once by `python -m allsub_edge.benchmarks.densenet_int8 DENSENET.onnx`.
# PLAIN.onnx:    an int8 file as it was converted (`allsub-edge export RUN ... --formats onnx-int8
#                --as-converted`), to show what each pass brings;
#                FLOAT (a variable) names the float32 file of the obvious way, else the shipped one.
# MODEL...:      what is measured; the first is told against the references.
# Takes a quarter of an hour on 2 cores that do nothing else. Results stay in out/performance.
set -eu
cd "$(dirname "$0")/.."
[ $# -ge 3 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
densenet=$1 plain=$2
shift 2
python=${PYTHON:-.venv-dev/bin/python}
out=out/performance
rm -rf "$out"
mkdir -p "$out" docs/performance
run() { # NAME MODULE ARGUMENT...: its table and its numbers
    name=$1
    shift
    echo "$name: $*" >&2
    "$python" -m "allsub_edge.benchmarks.$@" --json "$out/$name.json" >"$out/$name.md"
}
bench() { # NAME ARGUMENT...
    name=$1
    shift
    echo "$name: allsub-edge bench $*" >&2
    "$python" -m allsub_edge bench "$@" --json "$out/$name.json" --markdown "$out/$name.md" \
        --chart "$out/$name.png" 2>/dev/null
}
float=""
[ -z "${FLOAT:-}" ] || float="--float-model $FLOAT"
# shellcheck disable=SC2086
bench field224 "$@" --fields field224 --reference $float --densenet "$densenet"
# shellcheck disable=SC2086
bench camera12mp "$@" --fields camera12mp --reference $float --densenet "$densenet" --count 40
run model-only model_only "$@"
run model-only-one-thread model_only "$@" --reference-threads 1
run limit limit "$@" --chart "$out/limit.png"
run starting starting "$@"
run steps steps "$plain"
run growth growth --model "$1"
"$python" -m allsub_edge.benchmarks.page "$out" docs/performance.md
cp "$out"/*.png docs/performance/
