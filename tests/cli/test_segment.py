from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pytest

from allsub_edge.cli import render, segment
from allsub_edge.errors import UsageError
from allsub_edge.imaging.decode import read_field
from allsub_edge.imaging.draw import encode_png, overlay
from allsub_edge.imaging.recipes import RECIPES, get_recipe
from allsub_edge.imaging.render import render_field
from allsub_edge.imaging.resize import squash


def run(verb: object, *words: object) -> int:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)  # type: ignore[attr-defined]
    return verb.run(parser.parse_args([str(word) for word in words]))  # type: ignore[attr-defined]


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    folder = tmp_path / "fields"
    folder.mkdir()
    (folder / "a.png").write_bytes(encode_png(render_field(1, "Pre", 300)[:250]))
    (folder / "b.png").write_bytes(encode_png(render_field(2, "Pro")))
    return folder


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("recipe", ["cells", "aria2022"])
def test_the_mask_is_what_the_model_sees(
    fields: Path, tmp_path: Path, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, bare = tmp_path / "new" / "out.png", tmp_path / "mask.png"
    code = run(segment, fields / "a.png", "--recipe", recipe, "-o", out, "--mask", bare)
    assert code == 0
    rgb = squash(read_field(fields / "a.png").rgb)
    mask = get_recipe(recipe).mask(rgb)
    written = read(bare)
    assert written.shape == (224, 224)
    assert written.dtype == np.uint8
    assert np.array_equal(written, mask * 255)
    assert mask.any()
    picture = read(out)[:, :, ::-1]
    assert picture.shape == (224, 3 * 224 + 2 * 4, 3)
    assert np.array_equal(picture[:, :224], rgb)
    assert np.array_equal(picture[:, 228:452, 0], mask * 255)
    assert np.array_equal(picture[:, 456:], overlay(rgb, mask))
    line = capsys.readouterr().out
    assert str(fields / "a.png") in line
    assert recipe in line
    assert f"{mask.mean():.4f}" in line


def test_bad_inputs_do_not_stop_the_others(
    fields: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (fields / "aa.jpg").write_text("no image at all\n" * 9)
    out = tmp_path / "out.png"
    assert run(segment, fields, tmp_path / "nope.png", fields / "b.png", "-o", out) == 1
    heard = capsys.readouterr()
    assert len(heard.out.splitlines()) == 3
    errors = heard.err.splitlines()
    assert len(errors) == 2
    assert "aa.jpg" in errors[0]
    assert "nope.png" in errors[1]
    assert read(out).shape == (3 * 224 + 2 * 4, 680, 3)


def test_several_masks_need_several_names(fields: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="stem"):
        run(segment, fields, "--mask", tmp_path / "mask.png")
    assert not (tmp_path / "mask.png").exists()
    assert run(segment, fields, "--mask", tmp_path / "m" / "{stem}-mask.png") == 0
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["a-mask.png", "b-mask.png"]
    (tmp_path / "masks").mkdir()
    assert run(segment, fields, "--mask", tmp_path / "masks", "-o", tmp_path / "{stem}.png") == 0
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["a.png", "b.png"]
    assert read(tmp_path / "b.png").shape == (224, 680, 3)


def test_fields_of_one_name_do_not_overwrite_each_other(
    fields: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes(encode_png(render_field(8, "Early")))
    assert run(segment, fields, other, "--mask", tmp_path / "m-{stem}.png") == 1
    assert "same name" in capsys.readouterr().err
    first = get_recipe("cells").mask(squash(read_field(fields / "a.png").rgb))
    assert np.array_equal(read(tmp_path / "m-a.png"), first * 255)


def test_outputs_that_would_do_harm_are_refused(fields: Path, tmp_path: Path) -> None:
    before = (fields / "a.png").read_bytes()
    for words in (
        ("--mask", fields / "a.png"),
        ("-o", fields / "a.png"),
        ("--mask", fields),
        ("-o", tmp_path / "out.jpg"),
        ("-o", tmp_path / "x.png", "--mask", tmp_path / "x.png"),
        ("--recipe", "otsu"),
    ):
        with pytest.raises(UsageError):
            run(segment, fields / "a.png", *words)
    assert (fields / "a.png").read_bytes() == before
    assert list(tmp_path.iterdir()) == [fields]


def test_one_picture_has_an_end(
    fields: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "MAX_ROWS", 1)
    with pytest.raises(UsageError, match="stem"):
        run(segment, fields, "-o", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_the_help_names_every_recipe() -> None:
    parser = argparse.ArgumentParser(description=segment.HELP)
    segment.add_arguments(parser)
    text = parser.format_help()
    assert "examples:" in text
    for name in RECIPES:
        assert f"\n  {name} " in text


def test_a_rendered_field_is_that_very_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "field.png"
    assert run(render, target, "--label", "Pre", "--seed", 7) == 0
    assert capsys.readouterr().out.split() == [str(target)]
    assert np.array_equal(read(target)[:, :, ::-1], render_field(7, "Pre"))
    assert run(render, "-o", target, "--size", 64) == 0
    assert read(target).shape == (64, 64, 3)


def test_many_rendered_fields(tmp_path: Path) -> None:
    assert run(render, f"{tmp_path}/new/", "--count", 2, "--seed", 5) == 0
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["Pro-5.png", "Pro-6.png"]
    assert run(render, tmp_path / "{label}_{seed}.png", "--count", 2, "--label", "Early") == 0
    assert (tmp_path / "Early_2.png").is_file()


def test_render_says_what_is_wrong(tmp_path: Path) -> None:
    for words in (
        (),
        (tmp_path / "a.png", "-o", tmp_path / "b.png"),
        (tmp_path / "a.jpg",),
        (tmp_path / "a.png", "--count", 2),
        (tmp_path / "a.png", "--count", 0),
        (tmp_path / "a.png", "--seed", -1),
        (tmp_path / "a.png", "--size", 5),
    ):
        with pytest.raises(UsageError):
            run(render, *words)
    assert not list(tmp_path.iterdir())
