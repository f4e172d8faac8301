from __future__ import annotations

import csv
import io
import json
import shutil
import zlib
from pathlib import Path

import pytest

from allsub_edge.case import CASE_COLUMNS, CaseVerdict
from allsub_edge.classes import NOT_A_MEDICAL_DEVICE
from allsub_edge.cli.main import main
from tests import toy_model
from tests.cli.test_infer import bad_inputs, write_field


def model_file(folder: Path, **calibration: object) -> str:
    raw = toy_model.manifest_dict()
    raw["calibration"] |= {"conformal": None} | calibration
    path = folder / "toy.onnx"
    path.write_bytes(toy_model.sealed(raw))
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return model_file(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "S-17"
    made.mkdir()
    for seed in range(6):
        write_field(made / f"f{seed}.png", seed)
    return made


def verdict_in(text: str) -> CaseVerdict:
    return CaseVerdict.from_dict(json.loads(text))


def test_the_verdict_is_that_of_the_fields(
    model: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", str(folder), "--model", model, "--format", "json"]) == 0
    single = json.loads(capsys.readouterr().out)
    assert main(["case", str(folder), "--id", "S-17", "--model", model, "--format", "json"]) == 0
    out, err = capsys.readouterr()
    verdict = verdict_in(out)
    assert verdict.case == "S-17"
    assert verdict.fields.fit == len(single) == 6
    for name, mean in verdict.mean_probabilities.items():
        assert mean == pytest.approx(sum(r["probabilities"][name] for r in single) / 6, abs=1e-6)
        assert verdict.votes[name] == [r["top"] for r in single].count(name)
    assert NOT_A_MEDICAL_DEVICE in err


def test_all_formats_say_the_same(
    model: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    got = {}
    for kind in ("text", "json", "csv"):
        out = tmp_path / f"out.{kind}"
        arguments = ["case", str(folder), "--id", "S-17", "--model", model, "--format", kind]
        assert main([*arguments, "-o", str(out), "--quiet"]) == 0
        assert capsys.readouterr() == ("", "")
        got[kind] = out.read_text()
    verdict = verdict_in(got["json"])
    (row,) = csv.DictReader(io.StringIO(got["csv"]))
    assert tuple(row) == CASE_COLUMNS
    assert row["top"] == verdict.top
    assert int(row["seen"]) == verdict.fields.seen == 6
    assert f"case S-17: {verdict.status}" in got["text"]
    assert f"say {verdict.top}" in got["text"]
    assert all(line.isprintable() for line in got["text"].splitlines())


def test_the_report_has_the_fields_and_the_refused_ones(
    model: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = bad_inputs(tmp_path)
    evil = folder / "<script>alert(1)<"
    evil.mkdir()
    write_field(folder / "x.png", 9).rename(evil / "script>.png")
    write_field(folder / "odd.png", 11).rename(folder / "<img src=x onerror=alert(1)>.png")
    report = tmp_path / "S-17.html"
    arguments = ["case", str(folder), str(evil), *bad, "--id", "S-17", "--model", model]
    assert main([*arguments, "--report", str(report), "--format", "json"]) == 1
    out, err = capsys.readouterr()
    verdict = verdict_in(out)
    assert verdict.fields.fit == 8
    assert verdict.fields.error == len(bad) == sum(verdict.errors.values())
    assert set(verdict.errors) == set(bad.values())
    assert sum(line.startswith("error ") for line in err.splitlines()) == len(bad)
    page = report.read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 8
    for name in bad:
        assert Path(name).name in page
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in page


def test_copies_of_one_field_count_once(
    model: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(20):
        shutil.copy(folder / "f0.png", folder / f"copy{i}.png")
    assert main(["case", str(folder), "--id", "S-17", "--model", model, "--format", "json"]) == 0
    verdict = verdict_in(capsys.readouterr().out)
    assert (verdict.fields.fit, verdict.fields.repeated, verdict.fields.seen) == (6, 20, 26)


def test_the_same_pixels_in_another_file_are_the_same_field(
    model: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    for i in range(3):
        data = (folder / "f0.png").read_bytes()
        chunk = b"tEXt" + f"Comment\0{i}".encode()
        extra = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        (folder / f"commented{i}.png").write_bytes(data[:-12] + extra + data[-12:])
    cv2.imwrite(str(folder / "stored.tiff"), cv2.imread(str(folder / "f0.png")))
    (folder / "bad.png").write_bytes(b"no image")
    shutil.copy(folder / "bad.png", folder / "worse.png")
    report = str(tmp_path / "S-17.html")
    words = ["--id", "S-17", "--model", model, "--format", "json", "--report", report]
    assert main(["case", str(folder), *words]) == 1
    found = verdict_in(capsys.readouterr().out).fields
    assert (found.fit, found.repeated, found.error, found.seen) == (6, 5, 1, 12)


def test_only_bad_fields_give_no_verdict(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "r.html"
    bad = bad_inputs(tmp_path)
    arguments = ["case", *bad, "--id", "S-17", "--model", model, "--report", str(report)]
    assert main(arguments) == 1
    out, _ = capsys.readouterr()
    assert "case S-17: unfit, no label" in out
    assert "no field was fit to judge" in out
    assert "No verdict" in report.read_text()


def test_only_unfit_fields_give_no_verdict_and_exit_with_one(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = model_file(tmp_path, domain_threshold=1e-9)
    report = tmp_path / "r.html"
    arguments = ["case", str(folder), "--id", "S-17", "--model", strict, "--report", str(report)]
    assert main([*arguments, "--format", "json"]) == 1
    verdict = verdict_in(capsys.readouterr().out)
    assert verdict.status == "unfit"
    assert verdict.unfit_reasons == {"out_of_domain": 6}
    # One sees what was refused.
    assert report.read_text().count('class="unfit"') == 6


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--id", ""],
        ["--id", " "],
        ["--id", "a\nb"],
        ["--id", "a", "--format", "ndjson"],
        ["--id", "a", "--threads", "0"],
        ["--id", "a", "--report", "x.pdf"],
        ["--id", "a", "--report", "."],
        ["--id", "a", "-o", "."],
        ["--id", "a", "-o", "x.html", "--report", "x.html"],
        ["--id", "a", "--model", "no-such.onnx"],
    ],
)
def test_usage_errors_exit_with_two_in_one_line(
    arguments: list[str], model: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments if "--model" in arguments else [*arguments, "--model", model]
    assert main(["case", str(folder), *given]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("allsub-edge: error: ")


def test_a_failed_report_leaves_the_old_one(model: str, folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.html"
    report.write_text("old")
    arguments = ["case", str(folder), "--id", "a", "--report", str(report)]
    assert main([*arguments, "--model", "no-such.onnx"]) == 2
    assert report.read_text() == "old"
