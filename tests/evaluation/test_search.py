"""A list of configurations, trained in turn on a toy; skipped, continued, told in one table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from allsub_edge.cli.main import main
from allsub_edge.errors import DataError, UsageError
from allsub_edge.evaluation import search
from allsub_edge.evaluation.search_table import collect, markdown
from allsub_edge.training.dataset import fingerprint, read_dataset
from allsub_edge.training.run import SCHEMA, Run

COMMON = """
[common]
backbone = "toy"
size = 64
epochs = 1
head_epochs = 0
batch_size = 8
frozen_blocks = 0
frozen_batch_norm = false
dense = 8
augment = "none"
"""

LIST = (
    COMMON
    + """
[[configuration]]
name = "plain"

[[configuration]]
name = "wide"
dense = 16

[[configuration]]
name = "pupil"
teacher = "wide"
"""
)


def written(folder: Path, text: str) -> Path:
    path = folder / "list.toml"
    path.write_text(text, "utf-8")
    return path


def test_entries_have_what_all_have_and_what_they_differ_in(tmp_path: Path) -> None:
    start = {"toy": "a.h5", "": "imagenet"}
    plain, wide, pupil = search.read_list(written(tmp_path, LIST), tmp_path / "out", start)
    assert (plain.config.dense, wide.config.dense, wide.config.size) == (8, 16, 64)
    assert wide.differs == {"dense": 16} and search.told(plain) == "as all"
    assert pupil.config.teacher == str(tmp_path / "out" / "wide")
    assert search.told(pupil) == "teacher wide"
    taught = LIST.replace('teacher = "wide"', 'teacher = "plain, wide,elsewhere/run"')
    *_, pupil = search.read_list(written(tmp_path, taught), tmp_path / "out", start)
    here = tmp_path / "out"
    assert pupil.config.teacher == f"{here / 'plain'},{here / 'wide'},elsewhere/run"
    assert search.told(pupil) == "teacher plain,wide,run"
    assert plain.config.weights == "a.h5"
    text = LIST.replace('name = "wide"', 'name = "wide"\nbackbone = "vgg16"')
    assert (
        search.read_list(written(tmp_path, text), tmp_path, start)[1].config.weights == "imagenet"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[common", r"list\.toml: not TOML"),
        ("[common]\n", r"no \[\[configuration\]\]"),
        ("[commen]\n" + LIST, "unknown key 'commen'"),
        (LIST.replace("dense = 16", "dence = 16"), "wide: configuration: unknown key 'dence'"),
        (LIST.replace('"wide"\ndense', '"plain"\ndense'), "plain is there twice"),
        (LIST.replace('name = "plain"', 'name = "../plain"'), "configuration 1 has no usable name"),
        (LIST.replace('name = "plain"', "epochs = 2"), "configuration 1 has no usable name"),
    ],
)
def test_a_wrong_list_is_told_by_place(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        search.read_list(written(tmp_path, text), tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        search.read_list(tmp_path / "none.toml", tmp_path)


def test_a_search_trains_once_and_tells_all(
    data: Path, split_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    words = ["search", str(written(tmp_path, LIST)), "--data", str(data)]
    words += ["--split", str(split_file), "--out", str(out), "--no-latency"]
    assert main([*words, "--only-table"]) == 1
    assert "0 of 3 configurations are done; waiting: plain, wide, pupil." in capsys.readouterr().out
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "3 of 3: pupil (teacher wide)" in shown.err
    told = json.loads((out / "table.json").read_text("utf-8"))
    assert [row["name"] for row in told["rows"]] == ["plain", "wide", "pupil"]
    assert told["waiting"] == []
    small, wide, _ = (row["parameters"] for row in told["rows"])
    assert wide - small == 8 * 32 + 8 + 8 * 4  # a dense block of 16 instead of 8 behind 32 features
    for row in told["rows"]:
        stored = Run(out / row["name"]).read_json("evaluation.json")
        assert row["evaluation"] == stored
        count = stored["plain"]["accuracy"]
        assert f"| {100 * count['value']:.2f} % (" in shown.out
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*.npz")}
    assert main(words) == 0
    assert "1 of 3: plain is done" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("*/*.npz")}
    # Nor is a run on another split, whether or not its training is asked for again.
    other = tmp_path / "other.csv"
    other.write_text(split_file.read_text("utf-8").replace("validation", "train"), "utf-8")
    again = [str(other) if word == str(split_file) else word for word in words]
    table = (out / "table.md").read_bytes()
    for asked in (again, [*again, "--only-table"]):
        assert main(asked) == 2
        assert "plain: is done, on another split than" in capsys.readouterr().err
        assert (out / "table.md").read_bytes() == table
    # Another configuration under a name that is taken is never mixed up with it.
    written(tmp_path, LIST.replace("dense = 16", "dense = 32"))
    assert main(words) == 2
    assert "wide: holds a run with another dense" in capsys.readouterr().err


def _finished(entry: search.Entry, folder: Path, split: Path, fields: str) -> None:
    """A run folder as far as a search looks into it."""
    run = Run(folder)
    folder.mkdir(parents=True)
    run.write_json(
        "config.json",
        {"schema": SCHEMA, "config": entry.config.to_dict(), "data_fingerprint": fields},
    )
    run.split_path.write_bytes(split.read_bytes())
    run.write_json("evaluation.json", {})
    run.write_json("history.json", [])
    run.write_arrays("best.npz", {})


def test_a_finished_run_on_another_split_or_other_fields_is_refused(
    data: Path, split_file: Path, tmp_path: Path
) -> None:
    entries, out = search.read_list(written(tmp_path, LIST), tmp_path / "out"), tmp_path / "out"
    other = tmp_path / "other.csv"
    other.write_text(split_file.read_text("utf-8").replace("validation", "train"), "utf-8")
    present = fingerprint(read_dataset(data))
    _finished(entries[0], out / "plain", split_file, present)

    def searched(split: Path) -> list[str]:
        lines: list[str] = []
        search.search(
            entries[:1], out, search.Trainer(data, split, lambda *_: None, print), say=lines.append
        )
        return lines

    assert searched(split_file) == ["1 of 1: plain is done"]
    with pytest.raises(UsageError, match=r"plain: is done, on another split than .*another --out"):
        searched(other)
    _finished(entries[1], out / "wide", other, present)
    with pytest.raises(DataError, match=r"wide: another split or other data than .*plain"):
        collect(entries, out, {})
    Run(out / "plain").write_json(
        "config.json",
        {**Run(out / "plain").read_json("config.json"), "data_fingerprint": "0" * 64},
    )
    with pytest.raises(DataError, match=r"plain: is done, on other fields than .*another --out"):
        searched(split_file)


def test_a_stopped_search_has_a_table_and_names_what_failed(
    run: Path, data: Path, split_file: Path, tmp_path: Path
) -> None:
    entries = search.read_list(written(tmp_path, LIST), tmp_path / "out")
    calls: list[str] = []

    def train(entry: search.Entry, folder: Path) -> None:
        calls.append(entry.name)
        if entry.name == "wide":
            raise DataError("no_fields", "no training field of class Pro in the split")

    tables: list[int] = []
    with pytest.raises(DataError, match="wide: no training field of class Pro"):
        search.search(entries, tmp_path / "out", train, after=lambda: tables.append(1))
    assert (calls, tables) == (["plain", "wide"], [1])
    found = collect(entries, tmp_path / "out", {})
    assert found["rows"] == [] and "not a medical device" in markdown(found)
