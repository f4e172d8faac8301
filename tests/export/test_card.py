from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

from allsub_edge.audit.releases import FIRST
from allsub_edge.classes import CLASSES
from allsub_edge.export import public_set
from allsub_edge.export.about import _KNOWN, licence
from allsub_edge.export.card import _limits, _rate, latency
from allsub_edge.export.card_data import data_section
from allsub_edge.export.table import WRITTEN, Exported
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.run import SCHEMA, Run
from allsub_edge.training.split import Split, SplitRow, write_split

SHIPPED = next(iter(public_set.PARTS))


def made_run(
    folder: Path,
    protocol: str,
    notes: dict[str, str],
    fingerprint: str = "0" * 64,
    counts: dict[str, int] | None = None,
    tested: str = "c",
) -> Run:
    """A run without a network: groups of three fields, those named ``tested`` in the test role."""
    rows = []
    for label in CLASSES:
        for number in range((counts or {}).get(label, 9)):
            group = "abc"[number % 3]
            role = "test" if group in tested else "train"
            digest = f"{CLASSES.index(label)}{number:063x}"
            rows.append(SplitRow(f"{label}/{number}.png", digest, label, f"{label}-{group}", role))
    run = Run(folder)
    write_split(Split(rows, protocol, notes), run.split_path)
    config = TrainConfig(seed=7).to_dict()
    stored = {"schema": SCHEMA, "config": config, "data_fingerprint": fingerprint}
    run.write_json("config.json", stored)
    return run


def section(run: Run, protocol: str, *, folds: bool = False) -> str:
    manifest: dict[str, Any] = {
        "training": {
            "protocol": protocol,
            "seed": 7,
            "data_fingerprint": run.read_json("config.json")["data_fingerprint"],
            "split_sha256": "1" * 64,
            "versions": {"python": "3.11"},
        },
        "metrics": {"test": {}},
    }
    if folds:
        seen = {"fields": 512, "same_top": 1.0}
        manifest["metrics"] = {"out_of_fold": {}, "parity_on_training_fields": seen}
    return data_section(run, manifest, "A note.")


def test_the_card_tells_how_a_grouped_split_was_made(tmp_path: Path) -> None:
    run = made_run(tmp_path, "grouped", {"seed": "3", "block": "20"})
    text = section(run, "grouped")
    assert "A data set of 36 fields in 12 groups. Split protocol `grouped`, seed 3: whole " in text
    assert "groups of neighbouring file numbers, with byte-identical" in text
    assert "one patient may still be in two roles" in text and "A note." in text
    assert "| test | 12 | 3 Benign, 3 Early, 3 Pre, 3 Pro | 4 |" in text
    # The training's seed is another thing.
    assert "seed 7" not in text
    assert not any(word in text for word in ("mehradaria", "public", "1024x768"))


@pytest.mark.parametrize(
    ("protocol", "wanted"),
    [
        ("random-optimistic", "every number below is optimistic"),
        ("unstated", "how these were formed the split file does not say"),
        ("by-hospital", "how these were formed the split file does not say"),
    ],
)
def test_only_a_grouped_split_is_said_to_keep_neighbours_together(
    protocol: str, wanted: str, tmp_path: Path
) -> None:
    text = section(made_run(tmp_path, protocol, {}), protocol)
    assert f"`{protocol}`: " in text and wanted in text
    assert "neighbouring file numbers" not in text and "seed" not in text


def test_a_cross_fit_tells_how_its_folds_were_cut(tmp_path: Path) -> None:
    for number, tested in enumerate("abc", 1):
        notes = {"seed": "2", "fold": f"{number}/3", "block": "20"}
        made_run(tmp_path / f"fold{number}", "grouped", notes, SHIPPED, tested=tested)
    protocol = "grouped-cross-validation"
    run = made_run(tmp_path / "final", protocol, {}, SHIPPED, tested="")
    text = section(run, protocol, folds=True)
    assert (
        "Part of the public data set `mehradaria/leukemia`, 36 fields in 12 groups. Split protocol "
        "`grouped-cross-validation`: 3 folds, each of them in every class one run of neighbouring "
        "whole groups, cut with seed 2; a group is neighbouring file numbers, with byte-identical, "
        "near-identical and overlapping fields kept together. There are no patient ids, so one "
        "patient may still be in two folds."
    ) in text
    assert "It tells what such a file does on unseen groups. This very file cannot be" in text
    assert "one laboratory" in text and "1024x768 squashed to 224x224" in text
    assert "compared with its own network on 512 fields that it learned from" in text


def test_the_public_set_is_named_where_it_is_known(tmp_path: Path) -> None:
    def known(name: str, **about: Any) -> str:
        return public_set.as_known(made_run(tmp_path / name, "grouped", {}, **about))

    assert known("part", fingerprint=SHIPPED) == "Part of the public data set `mehradaria/leukemia`"
    assert known("whole", counts=dict(FIRST)).startswith("By its count of fields in each class the")
    assert known("other") == known("near", counts={**FIRST, "Pro": FIRST["Pro"] - 1}) == ""
    calibration = {"temperature": 1.0, "alpha": 0.05, "domain_threshold": 2.0}
    assert "one public data set from one laboratory" in _limits(
        {"calibration": calibration}, "the folds", True
    )
    assert "public" not in _limits({"calibration": calibration}, "the folds", False)


def test_what_was_not_measured_is_a_dash() -> None:
    rate: dict[str, Any] = {"value": 0.5, "count": 1, "total": 2, "interval95": [0.1, 0.9]}
    assert _rate(rate) == "50.00 % (10.00 to 90.00; 1 of 2)"
    assert _rate({**rate, "interval95": None}) == "50.00 % (-; 1 of 2)"
    assert _rate({**rate, "value": None, "interval95": [None, None]}) == _rate(None) == "-"


def test_latency_is_told_for_the_files_that_were_timed() -> None:
    timed = Exported(
        *("onnx-int8", "field", "int8", WRITTEN, "", Path("models/net-1-int8.onnx")),
        engine="onnxruntime 1.32.0",
        threads=1,
        p50_ms=5.75,
        peak_mib=75.8,
    )
    untimed = Exported(*("onnx-float32", "field", "float32", WRITTEN, "", Path("net.onnx")))
    text = latency([untimed, timed], "a board, neon")
    assert "| net-1-int8.onnx | onnxruntime 1.32.0 | 1 | 5.8 | 76 |" in text
    assert "on a board, neon;" in text
    assert text.startswith("## Latency") and "net.onnx" not in text
    assert latency([untimed], "a board") == ""


@pytest.mark.parametrize(
    ("weights", "backbone", "sha256", "told"),
    [
        ("none", "vgg16", None, "random starting weights"),
        ("imagenet", "efficientnet_lite0", "1" * 64, "EfficientNet-Lite0, Apache-2.0"),
        ("imagenet", "fused_lite0", "1" * 64, "EfficientNet-Lite0, Apache-2.0"),
        ("imagenet", "vgg16", None, "vgg16 under the licence of their authors"),
        ("a/lite0.weights.h5", "efficientnet_lite0", next(iter(_KNOWN)), "Lite0, Apache-2.0"),
        ("a/my.weights.h5", "efficientnet_lite0", "1" * 64, "my.weights.h5, under a licence not"),
    ],
)
def test_the_licence_is_that_of_the_starting_weights(
    weights: str, backbone: str, sha256: str | None, told: str
) -> None:
    assert told in licence(TrainConfig(weights=weights, backbone=backbone), sha256)
