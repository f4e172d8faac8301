from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

from allsub_edge.classes import NOT_A_MEDICAL_DEVICE
from allsub_edge.cli.main import main
from allsub_edge.errors import DataError, UsageError
from allsub_edge.evaluation import bootstrap, output
from allsub_edge.evaluation.compare import compare
from allsub_edge.evaluation.compare_chart import timed
from allsub_edge.evaluation.compare_page import main_rows, markdown, page, pair_rows
from allsub_edge.evaluation.evaluate import SCHEMA, evaluate
from allsub_edge.evaluation.pairs import compared, holm, mcnemar
from allsub_edge.evaluation.subject import RunSubject


def test_mcnemar_is_the_exact_binomial_tail() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 / 2**5)
    assert mcnemar(1, 8) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar(8, 1) == mcnemar(1, 8)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_a_pair_counts_what_only_one_gets_right() -> None:
    labels, groups = np.repeat(np.arange(4), 10), [str(i // 5) for i in range(40)]
    one = np.ones(40, bool)
    one[:2] = False
    other = np.ones(40, bool)
    other[1:9] = False
    drawn = bootstrap.weights(labels, groups, 500)
    (pair,) = compared(["one", "other"], [one, other], drawn)
    assert (pair["only_first_right"], pair["only_second_right"]) == (7, 1)
    assert pair["difference"] == pytest.approx(6 / 40)
    assert pair["p"] == pair["p_holm"] == pytest.approx(mcnemar(7, 1))
    low, high = pair["difference95"]
    assert low < 6 / 40 < high
    (same,) = compared(["one", "one again"], [one, one], drawn)
    assert same["difference95"] == [0.0, 0.0] and same["p"] == 1.0


def test_a_pair_on_a_class_of_one_group_has_no_interval() -> None:
    labels, groups = np.repeat(np.arange(4), 10), [str(i // 10) for i in range(40)]
    one, other = np.ones(40, bool), np.arange(40) > 3
    drawn = bootstrap.weights(labels, groups, 50)
    (pair,) = compared(["one", "other"], [one, other], drawn)
    assert pair["difference"] == pytest.approx(0.1) and pair["difference95"] == [None, None]
    ((*_, difference, _, _),) = pair_rows({"pairs": [pair]})
    assert difference == "+10.00 (-)"


def test_a_report_that_lacks_something_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rep.json"
    path.write_text(json.dumps({"schema": SCHEMA}))
    assert main(["compare", "--no-latency", str(path), str(path), "-o", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "rep.json: a report without subject; evaluate again" in line


@pytest.fixture(scope="module")
def evaluated(
    run: Path, branches_run: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """Copies of both toy runs with their reports."""
    folder, copies = tmp_path_factory.mktemp("runs"), []
    for source in (run, branches_run):
        copy = folder / source.name
        shutil.copytree(source, copy)
        found = evaluate(RunSubject(copy), data, quick=True, resamples=50)
        folder_of = output.default_folder(copy)
        output.write_together(folder_of, {output.REPORT: json.dumps(found.report)})
        copies.append(copy)
    return copies


def test_a_run_is_timed_beside_a_report(
    evaluated: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tf2onnx", reason="the export extra is not installed")
    shutil.copytree(evaluated[1] / "evaluation", tmp_path / "alone")
    paths = [str(evaluated[0]), str(tmp_path / "alone")]
    assert main(["compare", *paths, "-o", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "McNemar p" in told and NOT_A_MEDICAL_DEVICE in told
    stored = json.loads((tmp_path / "comparison.json").read_text("utf-8"))
    timed, alone = stored["latency"]
    assert 0 < timed["p50_ms"] <= timed["p95_ms"] and timed["bytes"] > 10_000
    assert "float32 ONNX" in timed["how"] and "report alone" in alone["how"]
    text = (tmp_path / "comparison.html").read_text("utf-8")
    assert "Accuracy against latency" in text and "http" not in text.partition("<body>")[2]
    table = (tmp_path / "comparison.md").read_text("utf-8")
    assert "background of another class" in table and "toy-branches" in table


def test_reports_alone_are_compared_without_times(evaluated: list[Path], tmp_path: Path) -> None:
    for copy in evaluated:
        shutil.copytree(copy / "evaluation", tmp_path / copy.name)
    found = compare([tmp_path / copy.name for copy in evaluated])
    assert all("report alone" in latency["how"] for latency in found["latency"])
    assert timed(found) is False
    assert "Accuracy against size" in page(found)
    (pair,) = found["pairs"]
    rights = [
        sum(f["top"] == f["class"] for f in found["reports"][name]["fields"])
        for name in found["names"]
    ]
    assert pair["only_first_right"] - pair["only_second_right"] == rights[0] - rights[1]


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (("subject", "name"), "subject.name"),
        (("measures", "accuracy"), "measures.accuracy"),
        (("measures", "accuracy", "bootstrap95"), "measures.accuracy.bootstrap95"),
        (("baselines",), "baselines"),
        (("fields", 3, "sha256"), "fields.3.sha256"),
        (("robustness", 0, "accuracy"), "robustness.0.accuracy"),
        (("ablation_note",), "ablation_note"),
        (("warnings",), "warnings"),
    ],
)
def test_what_a_report_lacks_is_named(
    evaluated: list[Path], tmp_path: Path, steps: tuple[str | int, ...], told: str
) -> None:
    report = output.read(evaluated[0])
    *way, last = steps
    place = report
    for step in way:
        place = place[step]
    del place[last]
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(DataError, match=f"a report without {told};") as caught:
        output.read(tmp_path)
    assert caught.value.code == "bad_report"


def test_what_was_not_counted_is_a_dash_in_a_comparison(
    evaluated: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "few"
    shutil.copytree(evaluated[1] / "evaluation", target)
    report = output.read(target)
    for row in report["measures"].values():
        row["bootstrap95"] = [None, None]
    for entry in report["robustness"]:
        entry["all_called_benign"] = None
        entry["without_donor"] = {"Pro": 2}
    report["ablation_means"] = "Replaced features are means over nothing."
    (target / "report.json").write_text(json.dumps(report))
    found = compare([target, evaluated[0]], timed=False, resamples=50)
    found["pairs"][0]["difference95"] = [None, None]
    own = found["reports"][found["names"][1]]["ablation_means"]
    assert "fields of the calibration role" in own
    for text in (markdown(found), page(found)):
        assert not re.search(r"\bnan\b|None", re.sub(r"base64,[^\"]+", "", text))
        assert "; no donor for 2 Pro" in text
        assert "toy-branches: Replaced features are means over nothing. toy-run: " + own in text
    assert "; -)" in main_rows(found)[0][2]


def test_the_order_of_fields_does_not_matter(evaluated: list[Path], tmp_path: Path) -> None:
    plain = compare(evaluated, timed=False, resamples=50)
    target = tmp_path / "turned"
    shutil.copytree(evaluated[1] / "evaluation", target)
    report = output.read(target)
    report["fields"].reverse()
    (target / "report.json").write_text(json.dumps(report))
    turned = compare([evaluated[0], target], timed=False, resamples=50)
    assert turned["pairs"] == plain["pairs"]


def test_other_test_fields_are_refused(evaluated: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "fewer"
    shutil.copytree(evaluated[1] / "evaluation", target)
    report = output.read(target)
    count = len(report["fields"])
    del report["fields"][0]
    (target / "report.json").write_text(json.dumps(report))
    with pytest.raises(DataError, match=f"{count} fields.*{count - 1}.*the same --split") as caught:
        compare([evaluated[0], target], timed=False)
    assert caught.value.code == "other_fields"


def test_a_report_of_earlier_weights_is_refused(evaluated: list[Path], tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(evaluated[1], changed)
    with (changed / "best.npz").open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(DataError, match="evaluate it again"):
        compare([evaluated[0], changed], timed=False)


def test_conditions_that_not_all_were_measured_under_are_left_out(
    evaluated: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "shorter"
    shutil.copytree(evaluated[1] / "evaluation", target)
    report = output.read(target)
    gone = report["robustness"].pop(0)["key"]
    (target / "report.json").write_text(json.dumps(report))
    found = compare([evaluated[0], target], timed=False, resamples=50)
    assert gone not in [c["key"] for c in found["conditions"]]
    assert "JPEG quality 30" in markdown(found)


def test_what_cannot_be_compared_is_one_clear_line(
    evaluated: list[Path], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, file = str(evaluated[0]), tmp_path / "file"
    file.write_text("x")
    cases = [
        ([one], "two or more"),
        ([one, one], "is given twice"),
        ([one, str(run)], f"allsub-edge evaluate {run}"),
        ([one, str(tmp_path / "none")], "does not exist"),
        ([one, str(tmp_path / "none.onnx")], "does not exist"),
        ([*map(str, evaluated), "-o", str(file)], "give a folder"),
    ]
    for arguments, told in cases:
        assert main(["compare", "--no-latency", *arguments]) == 2, arguments
        assert told in capsys.readouterr().err.strip().splitlines()[-1]
    with pytest.raises(UsageError):
        compare([])
