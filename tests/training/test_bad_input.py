"""What a user may get wrong, at the command line: one line that names it, and nothing written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

from allsub_edge.atomic import write_bytes
from allsub_edge.classes import CLASSES
from allsub_edge.cli.main import main
from allsub_edge.imaging.draw import encode_png
from allsub_edge.imaging.render import render_field
from allsub_edge.imaging.resize import squash
from allsub_edge.training import backbones

from .toy import TOY


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve fields of each class in six stretches of file numbers."""
    folder = tmp_path_factory.mktemp("good")
    for label in CLASSES:
        for number in (1, 2, 31, 32, 61, 62, 91, 92, 121, 122, 151, 152):
            image = encode_png(squash(render_field(number, label), 64))
            write_bytes(folder / label / f"WBC-{label}-{number:03d}.png", image)
    return folder


@pytest.fixture
def data(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "data"))


@pytest.fixture
def train(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run ``train`` and return the one line it complains with; the run folder must not exist."""
    monkeypatch.setitem(backbones.BACKBONES, "toy", TOY)

    def attempt(*more: str) -> str:
        out = tmp_path / "run"
        usual = ["--backbone", "toy", "--size", "64", "--epochs", "1"]
        code = main(["train", "--data", str(data), "--out", str(out), *usual, *more])
        lines = [x for x in capsys.readouterr().err.splitlines() if "error:" in x]
        assert code == 2 and len(lines) == 1
        assert not list(out.rglob("*")) if out.exists() else True
        return lines[0]

    return attempt


def test_the_class_folders(train: Callable[..., str], data: Path) -> None:
    (data / "Pro").rename(data / "Prro")
    assert "Prro: not a class folder (did you mean Pro?)" in train()
    shutil.rmtree(data / "Prro")
    assert "no folder for class Pro" in train()
    (data / "Pro").mkdir()
    assert "Pro: no images of class Pro" in train()


def test_an_image_that_cannot_be_read(train: Callable[..., str], data: Path) -> None:
    path = data / "Pre" / "WBC-Pre-031.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "Pre/WBC-Pre-031.png" in train()
    path.write_text("not an image")
    assert "WBC-Pre-031.png: is not a JPEG, PNG, BMP or TIFF image" in train()


def test_names_and_numbers(train: Callable[..., str], tmp_path: Path) -> None:
    assert "did you mean vgg16?" in train("--backbone", "vgg-16")
    assert "toy has no cut 'full'; choose from: stride16" in train("--cut", "full")
    assert "no preset is called 'wild'" in train("--augment", "wild")
    assert "epochs must be at least 1" in train("--epochs", "0")
    assert "no recipe is called 'cell'" in train("--recipe", "cell")
    assert "no such weights file" in train("--weights", "absent.h5")
    assert "is this a run folder?" in train("--teacher", str(tmp_path / "absent"))
    config = tmp_path / "my.toml"
    config.write_text("bacth_size = 3")
    line = train("--config", str(config))
    assert "my.toml: configuration: unknown key 'bacth_size'; did you mean batch_size?" in line


def test_a_split_without_a_role_or_a_class_to_learn(
    train: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "split.csv"
    make_split = ["split", str(data), "-o", str(path), "--seed", "1"]
    assert main([*make_split, "--calibration", "0"]) == 0
    assert "no field of the split has role calibration" in train("--split", str(path))
    assert main([*make_split, "--validation", "0"]) == 0
    assert "no field of the split has role validation" in train("--split", str(path))
    rows = path.read_text().splitlines()
    path.write_text("\n".join(r.replace(",train", ",test") if "Pro" in r else r for r in rows))
    line = train("--split", str(path), "--train-on-validation")
    assert "no training field of class Pro" in line


def test_fewer_groups_than_folds(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "folds"
    assert main(["split", "--folds", "9", str(data), "-o", str(out)]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "error:" in x]
    assert "fold" in line and "group" in line
    assert not list(tmp_path.glob("folds*"))


def test_resuming_takes_no_options(data: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "absent")
    assert main(["train", "--data", str(data), "--resume", out, "--epochs", "3"]) == 2
    assert main(["train", "--data", str(data), "--resume", out]) == 2
    assert not (tmp_path / "absent").exists()


def test_no_network_is_noticed_before_the_data_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    def offline(**_: object) -> None:
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.applications, "VGG16", offline)
    data, out = str(tmp_path / "absent"), tmp_path / "run"
    more = ["--backbone", "vgg16", "--weights", "imagenet"]
    assert main(["train", "--data", data, "--out", str(out), *more]) == 2
    assert "VGG16: its ImageNet weights could not be downloaded" in capsys.readouterr().err
    assert not out.exists()
