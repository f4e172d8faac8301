"""``infer --workers``: the same records in the same order, whatever happens to a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from allsub_edge.cli import workers
from allsub_edge.cli.main import main
from allsub_edge.cli.workers import Workers
from allsub_edge.errors import FieldError, UsageError
from allsub_edge.imaging.render import render_field

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty fields, every fifth much larger than the others, and two bad files."""
    made = tmp_path_factory.mktemp("fields")
    for number in range(20):
        field = render_field(number, "Pro", 1600 if number % 5 == 0 else 224)
        cv2.imwrite(str(made / f"f{number}.png"), field[..., ::-1])
    (made / "f7x.png").write_bytes(b"no image")
    (made / "f13x.jpg").write_bytes(b"")
    return made


def records(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "timing_ms"} for record in found]


def test_a_worker_whose_parent_is_gone_ends_in_silence(model: str) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        for given in (model, "absent.onnx"):
            life = f"serve({theirs.fileno()}, {given!r}, 1, False)"
            done = subprocess.run(
                [sys.executable, "-c", f"from allsub_edge.cli.workers import serve; {life}"],
                pass_fds=[theirs.fileno()],
                capture_output=True,
                cwd=ROOT,
            )
            assert (done.returncode, done.stderr) == (0, b"")


def test_records_and_pictures_are_those_of_one_process(
    model: str, folder: Path, tmp_path: Path
) -> None:
    for count in ("1", "3"):
        out = tmp_path / count
        arguments = ["infer", str(folder), "nowhere.png", "--model", model, "--threads", "1"]
        arguments += ["--format", "ndjson", "-o", f"{out}.ndjson", "--overlay", str(out)]
        assert main([*arguments, "--workers", count, "--quiet"]) == 1
    one, three = records(tmp_path / "1.ndjson"), records(tmp_path / "3.ndjson")
    assert len(one) == 23
    assert three == one
    assert [r["error"]["code"] for r in three if r["error"]] == [
        *("not_an_image", "empty", "missing")
    ]
    for picture in (tmp_path / "1").iterdir():
        ours, theirs = (cv2.imread(str(tmp_path / n / picture.name)) for n in ("1", "3"))
        assert ours is not None and theirs is not None
        # The time taken is written on it, in one line: nothing else may differ.
        differing = np.flatnonzero((ours != theirs).any(axis=(1, 2)))
        assert differing.size == 0 or differing[-1] - differing[0] < ours.shape[0] / 20


def test_a_bad_model_is_told_before_the_first_record(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    assert main(["infer", str(folder), "--model", str(bad), "--workers", "2"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "not an allsub-edge model file" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("count", ["-1", "65", "two"])
def test_workers_are_a_sensible_number(
    count: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", "f.png", "--model", model, f"--workers={count}"]) == 2
    assert "from 0 to 64" in capsys.readouterr().err


def test_no_field_is_handed_out_far_ahead_of_its_record(model: str, folder: Path) -> None:
    handed = 0

    def fields() -> Iterator[tuple[str, Any]]:
        nonlocal handed
        for _ in range(60):
            handed += 1
            yield "f1", folder / "f1.png"

    with Workers(model, 2, 1, views=False) as answering:
        for written, _ in enumerate(answering.view_many(fields())):
            assert handed - written <= 2 * workers.AHEAD
    assert handed == 60


def test_what_the_input_raises_comes_after_the_fields_before_it(model: str, folder: Path) -> None:
    def fields() -> Iterator[tuple[str, Any]]:
        for number in range(5):
            yield str(number), folder / "f1.png"
        raise KeyError("stop")

    seen = []
    with Workers(model, 2, 1, views=False) as answering, pytest.raises(KeyError, match="stop"):
        for record, _ in answering.view_many(fields()):
            seen.append(record.source)
    assert seen == ["0", "1", "2", "3", "4"]


def test_a_worker_that_dies_costs_one_record(model: str, folder: Path) -> None:
    with Workers(model, 2, 1, views=False) as answering:
        victim = answering._workers[0]
        answers = answering.view_many((str(n), folder / "f1.png") for n in range(30))
        first = next(answers)[0]
        at_hand = str(victim.held[0][0])
        # Killed between two answers: the answer to the field at hand may still be on its way.
        os.kill(victim.process.pid, signal.SIGKILL)
        found = [first, *(record for record, _ in answers)]
    assert [record.source for record in found] == [str(n) for n in range(30)]
    failed = [record for record in found if record.error is not None]
    assert len(failed) == 1
    assert failed[0].error is not None
    assert failed[0].error.code == "worker_died"
    assert int(failed[0].source) >= int(at_hand)


def test_workers_that_keep_dying_end_the_run(
    model: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workers(model, 1, 1, views=False) as answering:
        started = workers._Worker.give

        def give(worker: Any, number: int, given: Any) -> None:
            started(worker, number, given)
            worker.process.kill()
            worker.process.wait(30)

        monkeypatch.setattr(workers._Worker, "give", give)
        with pytest.raises(UsageError, match="fewer --workers"):
            list(answering.view_many((str(n), folder / "f1.png") for n in range(9)))


def test_an_error_given_instead_of_a_field_is_answered(model: str) -> None:
    with Workers(model, 1, 1, views=True) as answering:
        ((record, view),) = answering.view_many([("x", FieldError("missing", "x: gone"))])
    assert record.error is not None and record.error.message == "x: gone"
    assert view is None


def test_closing_ends_every_process(model: str) -> None:
    answering = Workers(model, 2, 1, views=False)
    processes = [worker.process for worker in answering._workers]
    assert all(process.poll() is None for process in processes)
    answering.close()
    answering.close()
    assert [process.returncode for process in processes] == [0, 0]


def test_sigterm_to_the_whole_group_finishes_what_was_begun(model: str, folder: Path) -> None:
    field = str(folder / "f1.png")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "allsub_edge", "infer", *([field] * 5000)),
            *("--model", model, "--format", "json", "--workers", "2"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.read(1) == b"["
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143
    found = json.loads(b"[" + out)
    assert 0 < len(found) < 5000
    assert all(record["error"] is None for record in found)
    assert f"ended by SIGTERM after {len(found)} field".encode() in err
    assert b"Traceback" not in err
