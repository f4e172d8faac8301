"""The ablation of the recipes: features, cache, cross-validation and tables on a toy extractor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("keras")

from allsub_edge.audit import recipe_ablation as ablation
from allsub_edge.audit import recipe_features as rf
from allsub_edge.classes import CLASSES
from allsub_edge.cli.main import main
from allsub_edge.errors import DataError, UsageError
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.white_balance import balance
from allsub_edge.training import backbones
from allsub_edge.training.dataset import Sample
from allsub_edge.training.perturb import hide_scale_bar
from tests.audit.toy_set import write_set
from tests.training.toy import TOY, toy_fields

SEED = 3
TOY_EXTRACTOR = rf.Extractor("toy", "stride16", "none", size=64)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "toy", TOY)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def fields() -> np.ndarray:
    return toy_fields(each=2)[0]


def samples_of(count: int) -> list[Sample]:
    return [
        Sample(f"{CLASSES[i % 4]}/f{i}.png", CLASSES[i % 4], i, f"{i:064x}") for i in range(count)
    ]


def test_pooling_is_that_of_the_network() -> None:
    from allsub_edge.training.network import MaskedAverage

    rng = np.random.default_rng(1)
    maps = rng.normal(size=(3, 4, 4, 5)).astype(np.float32)
    masks = (rng.random((3, 64, 64)) < 0.1).astype(np.uint8)
    masks[2] = 0
    theirs = np.asarray(MaskedAverage()([maps, masks[..., None].astype(np.float32)]))
    ours = rf.pooled(maps, masks)
    assert np.allclose(ours, theirs, atol=1e-5)
    assert not ours[2].any()


def test_a_fields_change_follows_from_its_place_alone(fields: np.ndarray) -> None:
    assert np.array_equal(rf.changed(fields, 0.0, SEED, 0)[1], hide_scale_bar(fields[1]))
    whole = rf.changed(fields, 0.2, SEED, 0)
    assert np.array_equal(whole[5:], rf.changed(fields[5:], 0.2, SEED, 5))
    ratio = whole[:, :20].mean((1, 2)) / rf.changed(fields, 0.0, SEED, 0)[:, :20].mean((1, 2))
    assert ratio.min() >= 0.78 and ratio.max() <= 1.22 and np.ptp(ratio) > 0.1
    assert not np.array_equal(whole, rf.changed(fields, 0.2, SEED + 1, 0))


def test_features_are_those_of_the_images_they_are_named_after(fields: np.ndarray) -> None:
    model = TOY_EXTRACTOR.build()
    found = rf.extract(TOY_EXTRACTOR, fields, 0.0, SEED, model=model)
    assert set(found) == {
        *("raw", "balanced"),
        *(f"{way}@{name}" for way in ("raw", "balanced", "second", "area")
          for name in ("aria2022", "cells")),
    }  # fmt: skip
    hidden = hide_scale_bar(fields[3])
    recipe = get_recipe("cells")
    mask = recipe.mask(hidden)

    def maps(rgb: np.ndarray) -> np.ndarray:
        normalised = rgb[None].astype(np.float32) * TOY.scale + TOY.offset
        return np.asarray(model.predict(normalised, verbose=0))

    assert np.allclose(found["raw"][3], maps(hidden).mean((0, 1, 2)), atol=1e-5)
    assert np.allclose(found["balanced"][3], maps(balance(hidden)).mean((0, 1, 2)), atol=1e-5)
    second = maps(recipe.second_channel(hidden)).mean((0, 1, 2))
    assert np.allclose(found["second@cells"][3], second, atol=1e-5)
    inside = rf.pooled(maps(balance(hidden)), mask[None])[0]
    assert np.allclose(found["balanced@cells"][3], inside, atol=1e-5)
    assert found["area@cells"][3, 0] == pytest.approx(mask.mean())


def test_features_are_kept_and_never_mixed_up(
    fields: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float] = []

    def extract(
        extractor: rf.Extractor, fields: np.ndarray, spread: float, seed: int, **_: object
    ) -> rf.Features:
        calls.append(spread)
        return {"raw": np.full((len(fields), 2), len(calls), np.float32)}

    monkeypatch.setattr(rf, "extract", extract)
    samples = samples_of(len(fields))

    def get(condition: str = "plain", order: int = 1, seed: int = SEED) -> float:
        found = rf.cached(
            TOY_EXTRACTOR, fields[::order], samples[::order], condition, seed, tmp_path
        )
        return float(found["raw"][0, 0])

    assert [get(), get(), get("gains_10"), get(seed=9)] == [1, 1, 2, 3]
    # The same set in another order has the same fingerprint, but its rows lie otherwise.
    assert get(order=-1) == 4 and calls == [0.0, 0.1, 0.0, 0.0]
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"plain-.*remove it and start again"):
        get()


def test_another_extractor_has_another_digest(tmp_path: Path) -> None:
    weights = tmp_path / "a.weights.h5"
    weights.write_bytes(b"one")
    one = rf.Extractor("toy", "stride16", str(weights)).digest()
    weights.write_bytes(b"two")
    assert len({one, rf.Extractor("toy", "stride16", str(weights)).digest(),
                TOY_EXTRACTOR.digest()}) == 3  # fmt: skip
    with pytest.raises(UsageError, match="no cut 'deep'"):
        rf.Extractor("toy", "deep", "none").build()


def test_every_combination_is_there_once() -> None:
    rows = ablation.variants()
    both = [v for v in rows if v.channels == "both"]
    assert len(rows) == len(set(rows)) == 18 and len(both) == 8
    paper = next(v for v in both if (v.fusion, v.original, v.recipe) == ("branches", "raw",
                                                                         "aria2022"))  # fmt: skip
    assert paper.parts == ("raw", "second@aria2022")
    pool = next(v for v in both if (v.fusion, v.original, v.recipe) == ("mask_pool", "balanced",
                                                                        "cells"))  # fmt: skip
    assert pool.parts == ("balanced", "balanced@cells")


def test_heads_learn_from_unchanged_fields_and_are_tested_on_the_rest() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 4
    plain = np.eye(4, dtype=np.float32)[labels] + 0.1 * rng.normal(size=(80, 4)).astype(np.float32)
    turned = np.roll(plain, 1, axis=1)
    place = np.arange(80)
    folds = [(np.flatnonzero(place // 20 != k), np.flatnonzero(place // 20 == k)) for k in range(4)]
    found = ablation.predictions({"plain": plain, "gains_10": turned}, labels, folds)
    assert ablation.accuracy(found["plain"], labels).value == 1.0
    assert np.array_equal(found["gains_10"], (labels + 1) % 4)
    assert ablation.all_called_benign(found["gains_10"], labels).count == 20
    assert ablation.all_called_benign(found["gains_10"], labels).total == 60


def test_a_difference_has_the_interval_of_its_groups() -> None:
    from allsub_edge.evaluation import bootstrap

    labels = np.repeat(np.arange(4), 25)
    groups = [f"{label}-{i % 5}" for i, label in enumerate(labels)]
    right, wrong = labels.copy(), labels.copy()
    wrong[::10] = (labels[::10] + 1) % 4
    drawn = bootstrap.weights(labels, groups)
    mean, low, high = ablation.difference(right, wrong, labels, drawn)
    assert mean == pytest.approx(0.1) and low < 0.1 < high and high - low < 0.25
    assert ablation.difference(wrong, wrong, labels, drawn) == (0.0, 0.0, 0.0)


def test_the_command_from_folder_to_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_set(tmp_path / "set", each=4)
    out = tmp_path / "told.json"
    words = ["compare-recipes", str(data), "--weights", "none", "--cache", str(tmp_path / "cache")]
    words += ["--backbone", "toy", "--folds", "2", "--block", "1", "--json", str(out)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    told = json.loads(out.read_text("utf-8"))
    assert len(told["rows"]) == 18
    for row in told["rows"]:
        rate = row["grouped"]["gains_20"]["accuracy"]
        assert rate["total"] == 16
        assert f"| {100 * rate['value']:.1f} (" in shown
    assert "16 fields, 16 groups, 2 folds" in shown and "not a medical device" in shown
    assert main(words) == 0
    assert capsys.readouterr().out == shown
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_what_is_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_set(tmp_path / "set", each=2)
    tail = ["--weights", "none", "--cache", str(tmp_path / "cache")]
    assert main(["compare-recipes", str(data), *tail, "--backbone", "toyy"]) == 2
    assert "unknown backbone 'toyy'" in capsys.readouterr().err
    (data / "Pre" / "f01.png").write_bytes(b"x")
    words = ["compare-recipes", str(data), *tail, "--backbone", "toy", "--block", "1"]
    assert main([*words, "--folds", "2"]) == 2
    err = capsys.readouterr().err
    assert "Pre/f01.png" in err and err.count("\n") == 1
    assert not (tmp_path / "cache").exists()
    (tmp_path / "file").write_bytes(b"")
    assert main([*words, "--cache", str(tmp_path / "file")]) == 2
    assert "is a file: name a folder" in capsys.readouterr().err


def test_damaged_groups_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_set(tmp_path / "set", each=2)
    words = ["compare-recipes", str(data), "--weights", "none", "--backbone", "toy"]
    words += ["--cache", str(tmp_path / "cache"), "--block", "1", "--folds", "2"]
    assert main(words) == 0
    [stored] = (tmp_path / "cache").glob("groups-*.json")
    stored.write_text("{", "utf-8")
    capsys.readouterr()
    assert main(words) == 2
    assert f"{stored.name}: cannot be read" in capsys.readouterr().err
