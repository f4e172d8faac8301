#!/bin/sh
# Rebuilds the shipped model from the data set: cross-fit, calibrate, export, write the card.
#
#   sh scripts/make_model.sh DATA WEIGHTS [RUN]
#
# DATA     folder of the public data set (with Original/Benign, Early, Pre, Pro)
# WEIGHTS  ImageNet weights of EfficientNet-Lite0 (see docs/training.md), or imagenet
# RUN      folder of the cross-fit, runs/crossfit by default; a stopped one goes on there
#
# Six networks are trained: one for each of five folds, and the one that ships, on all groups. On 2
# cores that takes two and a half hours, the folds' files and reports 20 minutes, the export 10:
# measured stage by stage.
set -eu
if [ "$#" -lt 2 ]; then
    sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
absolute() { case "$1" in /* | imagenet) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
data=$(absolute "$1")
weights=$(absolute "$2")
run=$(absolute "${3:-runs/crossfit}")
cd "$(dirname "$0")/.."
. scripts/venv.sh
need_venv .venv-dev
.venv-dev/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
    --editable '.[dev]'
.venv-dev/bin/allsub-edge crossfit --data "$data" --out "$run" --weights "$weights" \
    --config scripts/shipped_model.toml
# The folds' files answer for the groups that their networks did not learn from. They are made as the
# one that ships, which all of them together decide on below; none is judged alone, since two of 500
# fields are more than the gate allows.
set --
for k in 1 2 3 4 5; do
    if [ ! -f "$run/reports/fold$k/report.json" ]; then
        .venv-dev/bin/allsub-edge export "$run/fold$k" --data "$data" --out "$run/files" \
            --formats onnx-int8 --name "fold$k" --no-timing --max-drop 0.5 --allow-new-misses
        .venv-dev/bin/allsub-edge evaluate "$run/files/fold$k-1-int8.onnx" "$data" \
            --split "$run/fold$k/split.csv" --out "$run/reports/fold$k" --no-pictures
    fi
    set -- "$@" --card-report "$run/reports/fold$k"
done
# Made beside the run and taken over only when the gate passed all of them: never one new file beside
# old ones.
made=$run/made
rm -rf "$made"
if ! .venv-dev/bin/allsub-edge export "$run/final" --data "$data" --out "$made" \
    --formats onnx-float32,onnx-int8,tflite-int8 --report "$run/validation" \
    --name allsub --model-version 3 --card "$made/MODEL_CARD.md" \
    --card-note "$(cat scripts/model_note.txt)" "$@"; then
    echo "make_model: not every file passed, so allsub_edge/models stays as it was. What passed is in" \
        "$made, why another did not in $run/validation. Another seed in scripts/shipped_model.toml," \
        "with another RUN, trains other networks; allsub-edge export --help has the gate's options." >&2
    exit 1
fi
for file in "$made"/*; do
    cp "$file" "allsub_edge/models/.${file##*/}.part"
    mv "allsub_edge/models/.${file##*/}.part" "allsub_edge/models/${file##*/}"
done
.venv-dev/bin/python scripts/make_vectors.py
