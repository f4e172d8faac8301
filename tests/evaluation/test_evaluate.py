"""The whole verb on toy runs and a toy model file."""

from __future__ import annotations

import copy
import json
import re
import shutil
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

from allsub_edge.atomic import write_bytes
from allsub_edge.classes import CITATION, CLASSES, NOT_A_MEDICAL_DEVICE
from allsub_edge.classifier import Classifier
from allsub_edge.cli.main import main
from allsub_edge.errors import DataError, UsageError
from allsub_edge.evaluation import output
from allsub_edge.evaluation.evaluate import Evaluation, evaluate
from allsub_edge.evaluation.subject import ModelSubject, RunSubject, open_subject
from allsub_edge.evaluation.worst import worst
from allsub_edge.training.dataset import fingerprint, load_fields, read_dataset
from allsub_edge.training.run import Run
from tests.toy_model import manifest_dict, sealed

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def found(run: Path, data: Path) -> Evaluation:
    return evaluate(RunSubject(run), data, quick=True, resamples=200, now=lambda: NOW)


def test_the_report_repeats_what_the_training_measured(found: Evaluation, run: Path) -> None:
    report, trained = found.report, Run(run).read_json("evaluation.json")
    assert report["confusion"] == trained["plain"]["confusion"]
    assert report["measures"]["accuracy"]["count"] == trained["plain"]["accuracy"]["count"]
    assert report["measures"]["calibration_error"]["value"] == pytest.approx(
        trained["plain"]["calibration_error"], abs=1e-4
    )
    assert report["data"]["role"] == "test" and report["warnings"] == []
    assert report["data"]["fields"] == len(report["fields"]) > 8


def test_the_same_command_gives_the_same_report(found: Evaluation, run: Path, data: Path) -> None:
    again = evaluate(RunSubject(run), data, quick=True, resamples=200, now=lambda: NOW)
    assert json.dumps(again.report) == json.dumps(found.report)


def test_calibration_was_fitted_on_the_calibration_role(found: Evaluation, run: Path) -> None:
    stored, told = Run(run).read_json("calibration.json"), found.report["calibration"]
    again = told["fitted_again"]
    assert again["fields"] == stored["fields"]
    assert again["temperature"] == pytest.approx(stored["temperature"], rel=0.01)
    for name in CLASSES:
        assert again["conformal"][name] == pytest.approx(stored["conformal"][name], abs=1e-4)
    sizes = told["set_sizes"]
    assert sum(sizes.values()) == found.report["data"]["fields"]
    assert told["mean_set_size"] == pytest.approx(
        sum(int(size) * count for size, count in sizes.items()) / sum(sizes.values()), abs=1e-5
    )
    assert sum(b["total"] for b in told["reliability"]) == found.report["data"]["fields"]


def test_mistakes_come_first_and_the_surest_of_them_before_all(found: Evaluation) -> None:
    worst = found.report["worst"]
    right = [row["right"] for row in worst]
    assert right == sorted(right)
    assert sum(not r for r in right) == min(found.report["mistakes"], len(right))
    gaps = [row["probability_of_top"] - row["probability_of_class"] for row in worst]
    wrong = gaps[: right.count(False)]
    assert wrong == sorted(wrong, reverse=True)
    assert len(found.pictures) == len(worst)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_holds_everything_and_fetches_nothing(found: Evaluation, tmp_path: Path) -> None:
    found.report["worst"][0]["file"] = "Pro/<script>alert(1)</script>|a.png"
    html, markdown, numbers = output.write(found, tmp_path)
    text = html.read_text("utf-8")
    seen = _Links()
    seen.feed(text)
    assert seen.links and all(link.startswith("data:image/") for link in seen.links)
    assert "script" not in seen.tags and "link" not in seen.tags
    assert sum(link.startswith("data:image/jpeg") for link in seen.links) == len(found.pictures)
    for needed in (NOT_A_MEDICAL_DEVICE, CITATION, "no cell seen", "control", "Reliability"):
        assert needed in text
    assert not re.search(r"\bnan\b|None", re.sub(r"base64,[^\"]+", "", text))
    told = markdown.read_text("utf-8")
    assert NOT_A_MEDICAL_DEVICE in told and "the paper's way" in told
    for line in told.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (6, 5, 7, 4), line
    assert json.loads(numbers.read_text("utf-8")) == found.report
    assert output.read(tmp_path) == found.report


def test_what_was_not_counted_is_a_dash_in_the_report(found: Evaluation, tmp_path: Path) -> None:
    """As for fields whose same-class donors are all Benign and whose classes are of one group."""
    report = copy.deepcopy(found.report)
    for row in report["measures"].values():
        row["bootstrap95"] = [None, None]
    for entry in (*report["calibration"]["coverage"].values(), report["decisions"]["labels_given"]):
        entry["bootstrap95"] = [None, None]
    control = next(e for e in report["robustness"] if e["key"] == "background_same_class")
    control |= {"all_called_benign": None, "without_donor": {"Early": 2, "Pro": 3}}
    html, markdown, _ = output.write(Evaluation(report, []), tmp_path)
    for path in (html, markdown):
        text = re.sub(r"base64,[^\"]+", "", path.read_text("utf-8"))
        assert not re.search(r"\bnan\b|None", text)
        assert "(control); no donor for 2 Early, 3 Pro" in text
        assert "fewer than two groups has no bootstrap interval (-)" in text
    assert "It lacks 2 Early, 3 Pro, for which there is no donor" in html.read_text("utf-8")


def test_the_report_says_what_thresholds_and_means_came_from(
    found: Evaluation, run: Path, data: Path, tmp_path: Path
) -> None:
    """A run with a calibration role, and one without, as the folds of a cross-fit are."""
    fold = tmp_path / "fold"
    shutil.copytree(run, fold)
    split = (fold / "split.csv").read_text("utf-8")
    (fold / "split.csv").write_text(split.replace("calibration", "train"), "utf-8")
    other = evaluate(RunSubject(fold), data, quick=True, resamples=50)
    assert "fitted_again" in found.report["calibration"]
    assert "fitted_again" not in other.report["calibration"]
    fields = found.report["data"]["calibration_fields"]
    for evaluation, fitted, means in (
        (found, "the calibration role", f"the {fields} fields of the calibration role"),
        (other, "the answers of the other folds of its cross-fit", "the evaluated fields"),
    ):
        for path in output.write(evaluation, tmp_path)[:2]:
            text = path.read_text("utf-8")
            assert f"fitted after training on {fitted}" in text
            assert f"Replaced features are means over {means}" in text
            assert ("calibration role" in text) == (evaluation is found) or "want of a" in text


def test_pictures_can_be_left_out(found: Evaluation) -> None:
    without = worst(found.report, [])
    assert "image/jpeg" not in without and "<table" in without
    assert "image/jpeg" in worst(found.report, found.pictures)


def test_the_verb_writes_into_the_run_and_says_the_main_things(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copied-run"
    shutil.copytree(run, copy)
    arguments = ["evaluate", str(copy), str(data), "--quick", "--resamples", "50"]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert "ALL called Benign" in told.out and "shortcut: background colour" in told.out
    assert NOT_A_MEDICAL_DEVICE in told.out and "100 %" in told.err
    assert sorted(p.name for p in (copy / "evaluation").iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, data: Path, split_file: Path) -> Path:
    """A toy file whose manifest says that it was trained on the data of these tests."""
    import hashlib

    training = {
        **manifest_dict()["training"],
        "data_fingerprint": fingerprint(read_dataset(data)),
        "split_sha256": hashlib.sha256(split_file.read_bytes()).hexdigest(),
    }
    path = tmp_path_factory.mktemp("model") / "toy.onnx"
    write_bytes(path, sealed(manifest_dict(training=training)))
    return path


def test_a_model_file_answers_as_the_classifier_does(
    model: Path, data: Path, split_file: Path
) -> None:
    found = evaluate(
        ModelSubject(model, engine=None, threads=1),
        data,
        split_file=split_file,
        quick=True,
        resamples=50,
    )
    samples = {s.file: s for s in read_dataset(data)}
    with Classifier.load(model, threads=1) as classifier:
        for row in found.report["fields"]:
            record = classifier.predict(data / row["file"])
            assert record.top == row["top"] and record.status == row["status"]
            assert list(record.probabilities.values()) == pytest.approx(
                row["probabilities"], abs=2e-6
            )
            assert samples[row["file"]].label == row["class"]
    assert [entry["key"] for entry in found.report["ablation"]] == [
        "both",
        "cells_on_glass",
        "cells_removed",
    ]
    assert any("manifest names" in note for note in found.report["notes"])


def test_a_model_on_its_training_data_is_refused_without_the_split(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(model), str(data), "-o", str(tmp_path / "out")]) == 2
    assert "--split CSV" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def _copy_without(run: Path, target: Path, name: str) -> Path:
    shutil.copytree(run, target)
    (target / name).unlink()
    return target


@pytest.mark.parametrize("name", ["calibration.json", "domain.npz", "best.npz", "split.csv"])
def test_an_unfinished_run_names_the_missing_file(
    run: Path, data: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = _copy_without(run, tmp_path / "cut", name)
    assert main(["evaluate", str(cut), str(data), "--quick"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert name in line and line.startswith("allsub-edge: error:")
    assert not (cut / "evaluation").exists()


def test_bad_arguments_are_one_clear_line(
    run: Path, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    cases: list[tuple[list[Any], str]] = [
        ([tmp_path / "none", data], "does not exist"),
        ([tmp_path / "folder", data], "without config.json"),
        ([tmp_path / "file.txt", data], "neither a run folder nor a model file"),
        ([tmp_path / "bad.onnx", data], "bad.onnx"),
        ([run, tmp_path / "none"], "does not exist"),
        ([run, data, "--role", "tset"], "choose from"),
        ([run, data, "--split", tmp_path / "none.csv"], "allsub-edge split"),
        ([run, data, "--threads", "2"], "for model files"),
        ([run, data, "-o", tmp_path / "file.txt"], "give a folder"),
        ([run, data, "--resamples", "0"], "from 1 up"),
        ([model, data, "--engine", "abacus"], "choose from"),
    ]
    for arguments, told in cases:
        assert main(["evaluate", *map(str, arguments)]) == 2, arguments
        lines = capsys.readouterr().err.strip().splitlines()
        assert told in lines[-1], (arguments, lines)


def test_a_damaged_calibration_names_its_file(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    stored = Run(run).read_json("calibration.json")
    Run(tmp_path / "run").write_json("calibration.json", {**stored, "temperature": -1})
    with pytest.raises(DataError, match=r"calibration\.json"):
        open_subject(tmp_path / "run")


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.json").write_text("an earlier report")
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name.endswith(".md"):
            real(path, data[:10])
            raise OSError(28, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        output.write_together(tmp_path, {"report.html": "a", "report.md": "b", "report.json": "c"})
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json").read_text() == "an earlier report"


def test_a_tflite_file_is_a_subject_too(tmp_path: Path, data: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="the LiteRT extra is not installed")
    from tests import toy_tflite

    path = tmp_path / "toy.tflite"
    write_bytes(path, toy_tflite.sealed())
    subject = open_subject(path, threads=1)
    fields = load_fields(data, read_dataset(data)[:2])
    answers = subject.answer(fields)
    with Classifier.load(path, threads=1) as classifier:
        tops = [CLASSES.index(classifier.predict(field).top or "") for field in fields]
    assert answers.top.tolist() == tops
    assert "litert" in subject.identity()["engine"]


def test_a_cross_fit_is_told_to_give_a_fold(tmp_path: Path) -> None:
    Run(tmp_path / "fold1").write_json("config.json", {})
    with pytest.raises(UsageError, match="fold1, which is evaluated on groups"):
        open_subject(tmp_path)


def test_reports_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="allsub-edge evaluate"):
        output.read(tmp_path)
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(DataError, match="not readable"):
        output.read(tmp_path)
    (tmp_path / "report.json").write_text('{"schema": "other/1"}')
    with pytest.raises(DataError, match="evaluate again"):
        output.read(tmp_path)


def test_a_run_of_another_size_sees_squashed_fields(run: Path, data: Path) -> None:
    subject = RunSubject(run)
    fields = load_fields(data, read_dataset(data)[:3])
    assert subject.resized(fields).shape == (3, 64, 64, 3)
    answers = subject.answer(fields)
    assert answers.probabilities.shape == (3, 4)
    np.testing.assert_allclose(answers.probabilities.sum(1), 1, atol=1e-4)
