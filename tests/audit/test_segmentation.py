"""Recipes against masks: the numbers, the two layouts, what is refused, the sheet and the verb."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from allsub_edge.audit.segmentation import (
    Distribution,
    agreement,
    evaluate_recipes,
    extremes,
    render,
    report,
)
from allsub_edge.audit.sheet import FALSE, HIT, MISSED, compared, draw_sheet
from allsub_edge.classes import CLASSES
from allsub_edge.cli.main import main
from allsub_edge.errors import DataError, UsageError
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.render import render_with_truth


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., ::-1])
    assert cv2.imwrite(str(path), bgr)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Three rendered fields with what ``cells`` finds as nucleus and a rim around it as cell."""
    for seed in range(3):
        rgb = render_with_truth(seed, "Pre")[0]
        nucleus = get_recipe("cells").mask(rgb)
        cell = cv2.dilate(nucleus, np.ones((5, 5), np.uint8))
        write(tmp_path / "set" / f"{seed}.bmp", rgb)
        write(tmp_path / "set" / f"{seed}.png", np.where(nucleus, 255, cell * 128).astype(np.uint8))
    return tmp_path / "set"


def test_agreement_of_masks_counted_by_hand() -> None:
    found = np.array([[1, 1, 1, 0], [0, 0, 0, 0]], bool)
    wanted = np.array([[0, 1, 1, 1], [1, 0, 0, 0]], bool)
    dice, iou, precision, recall = agreement(found, wanted)
    assert dice == pytest.approx(4 / 7) and iou == pytest.approx(2 / 5)
    assert precision == pytest.approx(2 / 3) and recall == pytest.approx(1 / 2)
    nothing = np.zeros((2, 4), bool)
    assert agreement(nothing, nothing) == (1.0, 1.0, 1.0, 1.0)
    assert agreement(nothing, wanted) == (0.0, 0.0, 1.0, 0.0)
    assert agreement(found, nothing) == (0.0, 0.0, 0.0, 1.0)


def test_a_distribution_describes_its_values() -> None:
    told = Distribution.of([0.0, 0.25, 0.5, 0.75, 1.0])
    assert (told.mean, told.median, told.quartiles) == (0.5, 0.5, (0.25, 0.75))
    assert told.histogram == (1, 0, 1, 0, 0, 1, 0, 1, 0, 1)
    assert told.mean_interval[0] < 0.5 < told.mean_interval[1]
    assert Distribution.of([0.7]).mean_interval == pytest.approx((0.7, 0.7))
    assert Distribution.of([0.1, 0.9]) == Distribution.of([0.1, 0.9])


def test_a_recipe_agrees_with_itself_and_with_a_cell_in_part(truth: Path) -> None:
    cells, published = evaluate_recipes(truth, ["cells", "aria2022"])
    assert [entry.dice for entry in cells.measured] == [1.0] * 3
    assert [entry.file for entry in published.measured] == ["0.bmp", "1.bmp", "2.bmp"]
    assert all(entry.dice < 1 for entry in published.measured)
    whole = evaluate_recipes(truth, ["cells"], target="cell")[0]
    for entry in whole.measured:
        assert entry.precision == 1.0 and 0.5 < entry.recall < 1.0
        assert entry.dice == pytest.approx(2 * entry.recall / (1 + entry.recall))


def test_images_of_any_size_are_measured(tmp_path: Path) -> None:
    rgb, blasts = render_with_truth(3, "Early")[:2]
    write(tmp_path / "a.jpg", rgb[:203, :218])
    write(tmp_path / "a.png", (blasts[:203, :218] > 0).astype(np.uint8) * 255)
    for squashed in (False, True):
        entry = evaluate_recipes(tmp_path, ["cells"], squashed=squashed)[0].measured[0]
        assert entry.dice > 0.7


def test_what_cannot_be_used_is_listed_and_does_not_stop(truth: Path) -> None:
    rgb = cv2.imread(str(truth / "0.bmp"))
    good = cv2.imread(str(truth / "0.png"), cv2.IMREAD_GRAYSCALE)
    for name in ("colour", "small", "odd", "lonely", "broken"):
        assert cv2.imwrite(str(truth / f"{name}.bmp"), rgb)
    write(truth / "colour.png", np.repeat(good[..., None], 3, axis=2))
    write(truth / "small.png", good[:100])
    write(truth / "odd.png", np.where(good > 0, 77, 0).astype(np.uint8))
    (truth / "broken.png").write_bytes(b"no image")
    write(truth / "maskonly.png", good)
    outcome = evaluate_recipes(truth, ["cells"])[0]
    assert len(outcome.measured) == 3
    why = {entry.file: entry.why for entry in outcome.refused}
    assert set(why) == {
        *("broken.bmp", "colour.bmp", "lonely.bmp", "maskonly.bmp", "odd.bmp", "small.bmp")
    }
    assert "no mask lonely.png" in why["lonely.bmp"] and "0, 128 and 255" in why["odd.bmp"]
    assert "one channel" in why["colour.bmp"] and "not a readable PNG" in why["broken.bmp"]
    assert "224x100 pixels, the image 224x224" in why["small.bmp"]
    assert "no such file" in why["maskonly.bmp"]
    assert "not used: 6 images" in render([outcome])


@pytest.mark.parametrize(("what", "code"), [("absent", "no_data"), ("empty", "no_truth")])
def test_a_folder_without_truth(tmp_path: Path, what: str, code: str) -> None:
    folder = tmp_path / what
    if what == "empty":
        folder.mkdir()
        write(folder / "a.jpg", render_with_truth(1, "Pro")[0])
    with pytest.raises(DataError, match=str(folder)) as caught:
        evaluate_recipes(folder, ["cells"])
    assert caught.value.code == code
    if what == "empty":
        write(folder / "a.png", np.full((9, 9), 3, np.uint8))
        with pytest.raises(DataError, match=r"none of the 1 images.*a\.jpg"):
            evaluate_recipes(folder, ["cells"])


def test_unknown_recipes_are_refused(truth: Path) -> None:
    with pytest.raises(UsageError, match="aria2022, cells"):
        evaluate_recipes(truth, ["otsu"])


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The public set's layout; the cut-outs are made by aria2022, one of them all black."""
    for place, label in enumerate(CLASSES):
        for number in range(3):
            rgb = render_with_truth(10 * place + number, label)[0]
            name = f"{label}-{number}.png"
            write(tmp_path / "Original" / label / name, rgb)
            mask = get_recipe("aria2022").mask(rgb)
            cut = rgb * mask[..., None]
            write(tmp_path / "Segmented" / label / name, cut)
    write(tmp_path / "Segmented" / "Pro" / "Pro-2.png", np.zeros((224, 224, 3), np.uint8))
    return tmp_path


def test_the_released_cut_outs_are_compared_class_by_class(release: Path) -> None:
    outcome = evaluate_recipes(release, ["aria2022"])[0]
    assert outcome.target == "released"
    parts = outcome.parts()
    assert {name: len(own) for name, own in parts.items()} == dict.fromkeys(CLASSES, 3)
    for entry in outcome.measured:
        if entry.file.endswith("Pro-2.png"):
            assert entry.dice in (0.0, 1.0)
        else:
            assert entry.dice > 0.99, entry
    text = render([outcome])
    assert "Benign IoU   mean" in text and "own segmented images" in text
    (release / "Segmented" / "Pre").rename(release / "Segmented" / "Pree")
    with pytest.raises(DataError, match="did you mean Pre"):
        evaluate_recipes(release, ["aria2022"])


def test_colours_of_a_comparison() -> None:
    rgb = np.zeros((4, 4, 3), np.uint8)
    found = np.array([[1, 1, 0, 0]] * 4, bool)
    wanted = np.array([[0, 1, 1, 0]] * 4, bool)
    picture = compared(rgb, found, wanted)[0].astype(int)
    ground = picture[3]
    for column, colour in ((0, FALSE), (1, HIT), (2, MISSED)):
        expected = 0.4 * ground + 0.6 * np.array(colour)
        assert np.abs(picture[column] - expected).max() <= 1


def test_the_sheet_shows_worst_and_best(release: Path) -> None:
    outcome = evaluate_recipes(release, ["cells"])[0]
    shown = extremes(outcome, 2)
    assert list(shown)[:2] == ["Benign, worst", "Benign, best"]
    for label in CLASSES:
        worst, best = shown[f"{label}, worst"], shown[f"{label}, best"]
        assert len(worst) == 2 and len(best) == 1  # three images: none is shown twice
        assert worst[0].dice <= worst[1].dice <= best[0].dice
    picture = draw_sheet(release, [outcome], each=2)
    assert picture.dtype == np.uint8 and picture.shape[1] == 2 * 304 + 8
    assert picture.shape[0] > 8 * 150


def test_the_verb_writes_numbers_and_sheet(
    truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, sheet = tmp_path / "d.json", tmp_path / "s.png"
    words = ["evaluate-segmentation", str(truth), "--json", str(data), "--sheet", str(sheet)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "cells against nuclei drawn by hand, 3 images" in out and "Dice  mean 1.000" in out
    told = json.loads(data.read_text("utf-8"))
    assert [entry["recipe"] for entry in told["outcomes"]] == ["aria2022", "cells"]
    assert told == report(evaluate_recipes(truth, ["aria2022", "cells"]))
    assert cv2.imread(str(sheet)) is not None
    (truth / "1.png").unlink()
    assert main(["evaluate-segmentation", str(truth), "--recipe", "cells"]) == 1
    assert "1.bmp: there is no mask 1.png; add it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--sheet", "s.jpg"], "name it .png"),
        (["--json", "."], "is a folder"),
        (["--recipe", "otsu"], "choose one of: aria2022, cells"),
        (["--target", "rim"], "invalid choice"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(
    truth: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate-segmentation", str(truth), *words]) == 2
    shown = capsys.readouterr()
    assert told in shown.err and shown.err.count("\n") == 1 and shown.out == ""


def test_the_recipes_on_cells_drawn_by_hand(shared: Path) -> None:
    folder = shared / "data" / "segmentation-truth"
    published, cells = evaluate_recipes(folder, ["aria2022", "cells"])
    assert len(cells.measured) == 120 and not cells.refused
    assert Distribution.of([entry.dice for entry in cells.measured]).mean >= 0.915
    assert 0.04 < Distribution.of([entry.dice for entry in published.measured]).mean < 0.08
    squashed = evaluate_recipes(folder, ["cells"], squashed=True)[0]
    assert Distribution.of([entry.dice for entry in squashed.measured]).mean >= 0.90


def test_the_recipes_on_the_released_cut_outs(shared: Path) -> None:
    published, cells = evaluate_recipes(shared / "data" / "all-smears", ["aria2022", "cells"])
    medians = [
        Distribution.of([entry.iou for entry in own]).median for own in published.parts().values()
    ]
    assert np.abs(np.array(medians) - (0.83, 0.85, 0.91, 0.42)).max() < 0.03
    pro = [entry.iou for entry in cells.parts()["Pro"]]
    assert np.median(pro) < 0.1  # the released Pro cut-outs show rims of red cells
