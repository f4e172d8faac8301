from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from allsub_edge.classes import NOT_A_MEDICAL_DEVICE
from allsub_edge.cli.main import main
from allsub_edge.cli.overlay import card
from allsub_edge.imaging.render import render_field
from allsub_edge.prediction import ModelInfo, Prediction, answer
from allsub_edge.quality import REASONS, Quality


def field(path: Path, seed: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), render_field(seed, "Pro")[..., ::-1])
    return str(path)


def infer(model: str, out: Path, *paths: str) -> int:
    return main(["infer", *paths, "--model", model, "--overlay", str(out), "--quiet"])


def test_one_picture_per_field_with_names_of_its_own(model: str, tmp_path: Path) -> None:
    paths = [
        field(tmp_path / "in" / "f.png", 1),
        field(tmp_path / "other" / "f.jpg", 2),
        field(tmp_path / "other" / "F-2.png", 3),
        str(tmp_path / "absent.png"),
    ]
    out = tmp_path / "deep" / "seen"
    assert infer(model, out, *paths) == 1
    names = sorted(path.name for path in out.iterdir())
    assert names == ["F-2-2.overlay.png", "f-2.overlay.png", "f.overlay.png"]
    pictures = [cv2.imread(str(out / name)) for name in names]
    assert all(picture.shape == (672, 1092, 3) for picture in pictures)
    # The field of each picture is its own.
    wanted = cv2.resize(
        render_field(1, "Pro")[..., ::-1], (672, 672), interpolation=cv2.INTER_LINEAR_EXACT
    )
    differences = [np.abs(p[:, :672].astype(int) - wanted).mean() for p in pictures]
    assert int(np.argmin(differences)) == names.index("f.overlay.png")
    # A second run replaces, it does not add.
    assert infer(model, out, *paths) == 1
    assert sorted(path.name for path in out.iterdir()) == names


def test_pictures_never_land_among_the_fields(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "smears"
    path = field(folder / "f.png", 1)
    for out, given in (
        (folder, str(folder)),
        (folder / "sub", str(folder)),
        (folder, path),
        (folder, str(folder / "*.png")),
    ):
        assert infer(model, out, given) == 2
        assert "choose a folder outside" in capsys.readouterr().err
        assert [p.name for p in folder.rglob("*.png")] == ["f.png"]


def test_a_link_among_the_pictures_is_not_written_through(model: str, tmp_path: Path) -> None:
    path = Path(field(tmp_path / "f.png", 1))
    before = path.read_bytes()
    out = tmp_path / "seen"
    out.mkdir()
    (out / "f.overlay.png").symlink_to(path)
    assert infer(model, out, str(path)) == 0
    assert path.read_bytes() == before
    assert not (out / "f.overlay.png").is_symlink()


def test_a_file_is_no_folder(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = field(tmp_path / "in" / "f.png", 1)
    (tmp_path / "taken").write_text("mine")
    assert infer(model, tmp_path / "taken", path) == 2
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == "mine"


def test_very_long_names_fit(model: str, tmp_path: Path) -> None:
    paths = [field(tmp_path / f"{c}" / ("ü" * 120 + ".png"), 1) for c in "ab"]
    assert infer(model, tmp_path / "seen", *paths) == 0
    assert len(list((tmp_path / "seen").iterdir())) == 2


def record(*reasons: str, p: tuple[float, ...] = (0.0, 0.1, 0.2, 0.7)) -> Prediction:
    return answer(
        "folder/f.png",
        p,
        dict.fromkeys(("Benign", "Early", "Pre", "Pro"), 0.5),
        Quality(12.0, (240.0, 240.0, 240.0), 0.1, 1.0),
        reasons,
        {"decode": 1.0, "prepare": 1.0, "infer": 1.0},
        ModelInfo("toy", "0.1", "ab" * 32, "onnxruntime 1", 1),
    )


def test_the_card_says_what_the_record_says() -> None:
    fit = card(record())
    assert (fit.status, fit.title, fit.subtitle) == ("OK", "Pro", "pro-B ALL")
    assert [(b.name, b.share, b.strong) for b in fit.bars][2:] == [
        ("Pre", 0.2, False),
        ("Pro", 0.7, True),
    ]
    assert fit.footer[0] == "f.png"
    assert NOT_A_MEDICAL_DEVICE in fit.footer

    unfit = card(record("out_of_focus", "too_dark"))
    assert (unfit.title, unfit.notes) == (
        "no label",
        [REASONS["out_of_focus"], REASONS["too_dark"]],
    )
    assert not any(bar.strong for bar in unfit.bars)

    both = card(record(p=(0.5, 0.5, 0.0, 0.0)))
    assert (both.status, both.notes) == ("UNCERTAIN", ["cannot be excluded: Benign or Early"])
    none = card(record(p=(0.3, 0.3, 0.2, 0.2)))
    assert none.notes == ["no class is likely enough"]
    assert len({fit.colour, unfit.colour, both.colour}) == 3


def test_white_text_can_be_read_on_every_band() -> None:
    """Contrast by WCAG 2.1: relative luminance of sRGB, white against the band."""
    from allsub_edge.cli.overlay import COLOURS

    for colour in COLOURS.values():
        linear = [
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
            for v in (c / 255 for c in colour)
        ]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) >= 4


def test_an_old_record_without_a_count_has_a_card() -> None:
    old = record()
    facts = dict(card(replace(old, source="-")).facts)
    assert facts["cells"].startswith("- (10.0 %")
