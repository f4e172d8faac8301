from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from allsub_edge.classes import CLASSES
from allsub_edge.imaging.decode import decode
from allsub_edge.imaging.render import render_field
from allsub_edge.imaging.resize import squash
from tests import toy_model

pytest.importorskip("onnx", reason="building a toy model needs the extra `export`")

from allsub_edge.benchmarks.checks import Check
from allsub_edge.benchmarks.field_changes import (
    CHANGES,
    SHARPENINGS,
    SIZES,
    enlarged,
    files_of_all_sizes,
)
from allsub_edge.benchmarks.field_checks import main
from allsub_edge.benchmarks.unseen import unseen_fields
from allsub_edge.errors import DataError, UsageError
from allsub_edge.statistics import Rate
from allsub_edge.training.dataset import read_dataset
from allsub_edge.training.split import Split, SplitRow, write_split

EACH = 3


def write(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rgb[..., ::-1])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for label in CLASSES:
        for number in range(EACH):
            write(folder / label / f"f-{number}.png", render_field(number, label))
    return folder


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    rng = np.random.default_rng(1)
    for number in range(3):
        noise = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
        write(folder / "photos" / f"{number}.png", noise)
        write(folder / "smears" / f"{number}.png", render_field(number + 50))
    return folder


@pytest.fixture(scope="module")
def split(data: Path) -> Path:
    """The first field of every class is test."""
    rows = [
        SplitRow(
            s.file, s.sha256, s.label, f"{s.label}-{s.number}", "train" if s.number else "test"
        )
        for s in read_dataset(data)
    ]
    path = data.parent / "toy-split.csv"
    write_split(Split(rows, "grouped", {"seed": "1"}), path)
    return path


def model(path: Path, split: Path, **calibration: Any) -> str:
    raw = toy_model.manifest_dict()
    raw["training"]["split_sha256"] = hashlib.sha256(split.read_bytes()).hexdigest()
    raw["calibration"] |= calibration
    path.write_bytes(toy_model.sealed(raw))
    return str(path)


def asked(out: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main([*arguments, "-o", str(out)])
    content = json.loads(out.read_text())
    return code, {check["name"]: check for check in content["checks"]}


def test_everything_is_measured_on_the_test_fields(
    data: Path, elsewhere: Path, split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Every class is always possible: no label anywhere, every set holds all four.
    file = model(tmp_path / "m.onnx", split, conformal=dict.fromkeys(CLASSES, 1.0))
    arguments = [str(data), "--not-in-domain", str(elsewhere), "--model", file]
    code, found = asked(
        tmp_path / "o.json", *arguments, "--split", str(split), "--size-fields", "1"
    )
    assert code == 1, "sets of four are too large"
    assert found["not such a smear: no label"]["measured"]["total"] == 6
    assert found["not such a smear: no label, photos"]["limit"] == 1.0
    assert found["unseen fields: refused as unfit"]["measured"]["total"] == len(CLASSES)
    assert found["classes in a prediction set, mean"]["measured"] == 4
    assert found["classes in a prediction set, mean"]["met"] is False
    for name in CLASSES:
        covered = found[f"prediction set holds the true class, {name}"]
        assert (covered["measured"]["total"], covered["measured"]["value"]) == (1, 1.0)
    for name in CHANGES:
        assert found[f"{name}: wrong label"]["measured"]["count"] == 0
    assert found["4056x3040 jpeg: the label that the file has"]["measured"]["value"] == 1.0
    labelled = found["fields with a label: the same one at every size"]
    assert (labelled["measured"]["total"], labelled["met"]) == (0, False), "none, so none shown"
    out, err = capsys.readouterr()
    assert "NOT   classes in a prediction set" in out
    assert "Traceback" not in err


def test_wrong_labels_and_labels_of_strangers_are_counted(
    data: Path, elsewhere: Path, split: Path, tmp_path: Path
) -> None:
    # The likeliest class alone, and nothing is ever refused.
    loose = {"conformal": None, "domain_threshold": None, "quality": {}}
    file = model(tmp_path / "m.onnx", split, **loose)
    arguments = [str(data), "--not-in-domain", str(elsewhere), "--model", file]
    code, found = asked(
        tmp_path / "o.json", *arguments, "--split", str(split), "--size-fields", "0"
    )
    assert code == 1
    assert found["not such a smear: no label"]["measured"]["count"] == 0
    assert found["not such a smear: no label"]["met"] is False
    right = found["unseen fields: labels that are right"]["measured"]
    covered = sum(
        found[f"prediction set holds the true class, {name}"]["measured"]["count"]
        for name in CLASSES
    )
    assert (right["total"], right["count"]) == (len(CLASSES), covered)
    blurred = found["blurred, sigma 3: wrong label"]
    assert blurred["measured"]["count"] > 0, "the toy knows nothing"
    assert blurred["met"] is False
    assert not [name for name in found if "224x224" in name]


def test_folds_are_joined(data: Path, elsewhere: Path, split: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    rows = [
        SplitRow(
            s.file, s.sha256, s.label, f"{s.label}-{s.number}", "test" if s.number else "train"
        )
        for s in read_dataset(data)
    ]
    write_split(Split(rows, "grouped", {}), other)
    first, second = model(tmp_path / "1.onnx", split), model(tmp_path / "2.onnx", other)
    arguments = [str(data), "--not-in-domain", str(elsewhere), "--model", first]
    folds = ["--fold", first, str(split), "--fold", second, str(other), "--size-fields", "0"]
    _, found = asked(tmp_path / "o.json", *arguments, *folds)
    assert found["unseen fields: refused as unfit"]["measured"]["total"] == EACH * len(CLASSES)


def test_only_the_split_of_the_model_will_do(
    data: Path, elsewhere: Path, split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = model(tmp_path / "m.onnx", split)
    other = tmp_path / "other.csv"
    other.write_text(split.read_text().replace("seed=1", "seed=2"))
    arguments = [str(data), "--not-in-domain", str(elsewhere), "--model", file]
    assert main([*arguments, "--split", str(other)]) == 2
    err = capsys.readouterr().err.splitlines()
    assert "not the split the model was trained with" in err[-1]
    training = {"split_sha256": hashlib.sha256(split.read_bytes()).hexdigest(), "seed": 1}
    with pytest.raises(UsageError, match="was made with the role"):
        unseen_fields(data, training, split, "calibration")
    everything = tmp_path / "everything.csv"
    everything.write_text(split.read_text().replace(",test", ",train"))
    training["split_sha256"] = hashlib.sha256(everything.read_bytes()).hexdigest()
    with pytest.raises(DataError, match="every group"):
        unseen_fields(data, training, everything)
    assert main([str(data), "--not-in-domain", str(tmp_path / "none"), "--model", file]) == 2


def test_a_field_at_other_sizes_is_the_same_field() -> None:
    field = render_field(4, "Pre")
    made = dict(files_of_all_sizes(field))
    assert len(made) == 2 * len(SIZES)
    for name, data in made.items():
        size, kind = name.split()
        decoded = decode(data)
        assert (f"{decoded.width}x{decoded.height}", decoded.format) == (size, kind)
        away = np.abs(squash(decoded.rgb).astype(int) - field).mean()
        assert away < (0.5 if size == "224x224" and kind == "png" else 6), name
    assert np.array_equal(decode(made["224x224 png"]).rgb, field)


@pytest.mark.parametrize(("width", "height"), [(512, 512), (1024, 768)])
def test_an_enlarged_field_has_the_means_of_the_field(width: int, height: int) -> None:
    field = render_field(4, "Pre")
    exact, blurred = (
        np.abs(squash(enlarged(field, width, height, rounds)).astype(int) - field).mean()
        for rounds in (SHARPENINGS, 0)
    )
    assert exact < 0.1
    assert blurred > 4 * exact


def test_a_limit_is_met_on_its_own_side() -> None:
    assert Check("n", Rate(19, 20), 0.95).met
    assert not Check("n", Rate(18, 20), 0.95).met
    assert Check("n", Rate(1, 100), 0.01, at_least=False).met
    assert not Check("n", 1.2, 1.1, at_least=False).met
    assert Check("n", 1.2).met is None
    assert not Check("n", Rate(0, 0), 0.95).met, "nothing measured is not met"
    assert Check("n", Rate(1, 2), 0.95).row().startswith("NOT")
    assert json.dumps(Check("n", Rate(0, 0), 0.95).to_dict(), allow_nan=False)
