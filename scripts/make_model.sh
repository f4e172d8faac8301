#!/bin/sh
# Rebuilds the shipped model from the data set: train, calibrate, evaluate, export, write the card.
#
#   sh scripts/make_model.sh DATA WEIGHTS [RUN]
#
# DATA     folder of the public data set (with Original/Benign, Early, Pre, Pro)
# WEIGHTS  ImageNet weights of EfficientNet-Lite0 (see docs/training.md), or imagenet
# It took 25 minutes for training and 2 for export on a busy machine with 2 cores.
#
# RUN      run folder, runs/shipped by default; a stopped training continues there
set -eu
if [ "$#" -lt 2 ]; then
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
absolute() { case "$1" in /* | imagenet) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
data=$(absolute "$1")
weights=$(absolute "$2")
run=$(absolute "${3:-runs/shipped}")
cd "$(dirname "$0")/.."
. scripts/venv.sh
need_venv .venv-dev
.venv-dev/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
    --editable '.[dev]'
if [ -f "$run/config.json" ]; then
    .venv-dev/bin/allsub-edge train --data "$data" --resume "$run"
else
    .venv-dev/bin/allsub-edge train --data "$data" --out "$run" --weights "$weights" \
        --epochs 12 --augment medium --no-class-weights --label-smoothing 0.02 --ema 0.995 \
        --learning-rate 6e-4 --frozen-blocks 1 --train-on-validation
fi
.venv-dev/bin/allsub-edge export "$run" --data "$data" --out allsub_edge/models \
    --name allsub --model-version 1 --card allsub_edge/models/MODEL_CARD.md \
    --card-note "$(cat scripts/model_note.txt)"
