"""The watcher is killed, not asked, at random moments: nothing is torn, lost or counted twice."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from allsub_edge.imaging.draw import encode_png
from allsub_edge.imaging.render import render_field
from allsub_edge.prediction import Prediction
from allsub_edge.records import FILE_NAME, Records
from tests import toy_model
from tests.bounded import SECONDS, bounded

ROOT = Path(__file__).parents[1]
FIELDS_A_ROUND = 4
LABELS = ("Benign", "Early", "Pre", "Pro")


class Feeder:
    """Delivers fields as people and microscopes do: slowly, by rename, and as copies."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.delivered: dict[str, str] = {}  # SHA-256 -> name of its first file
        self._random = random.Random(seed)
        self._number = 0

    def deliver(self) -> None:
        for _ in range(FIELDS_A_ROUND):
            self._number += 1
            data = encode_png(render_field(self._number, LABELS[self._number % 4], 64))
            name = f"f{self._number}.png"
            self.delivered[sha256(data).hexdigest()] = name
            path = self.folder / f"p{self._number % 3}" / name
            path.parent.mkdir(exist_ok=True)
            if self._random.random() < 0.5:
                cut = self._random.randrange(1, len(data))
                with path.open("wb") as stream:
                    stream.write(data[:cut])
                    stream.flush()
                    time.sleep(self._random.uniform(0, 0.06))
                    stream.write(data[cut:])
            else:
                part = path.with_name(path.name + ".part")
                part.write_bytes(data)
                part.rename(path)
            if self._random.random() < 0.2:
                path.with_name(f"copy-{name}").write_bytes(data)
            time.sleep(self._random.uniform(0, 0.05))


def command(folder: Path, data: Path, model: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "allsub_edge", "watch", str(folder), "--data-dir", str(data)),
        *("--model", str(model), "--threads", "1", "--quiet"),
        *("--interval", "0.01", "--settle", "0.1", "--patience", "5", *more),
    ]


def survive(tmp_path: Path, rounds: int) -> None:
    folder, data, model = tmp_path / "in", tmp_path / "data", tmp_path / "toy.onnx"
    folder.mkdir()
    model.write_bytes(toy_model.sealed())
    feeder, dice = Feeder(folder, rounds), random.Random(rounds)
    printed: list[str] = []
    killed_at_work = 0
    for number in range(rounds):
        feeding = threading.Thread(target=feeder.deliver)
        feeding.start()
        process = subprocess.Popen(
            command(folder, data, model, "--format", "ndjson"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        assert process.stdout is not None
        if number % 4 == 3:
            time.sleep(dice.uniform(0, 0.6))  # also while it starts
        else:
            with bounded(process):
                printed.append(process.stdout.readline())
            time.sleep(dice.uniform(0, 0.08))
        assert process.poll() is None, process.communicate(timeout=SECONDS)[1]
        process.kill()
        rest, _ = process.communicate(timeout=SECONDS)
        feeding.join(SECONDS)
        assert not feeding.is_alive()
        lines = rest.splitlines(keepends=True)
        printed += lines
        killed_at_work += number % 4 != 3
    with Records.open(data) as records:
        before = records.count()
    done = subprocess.run(
        command(folder, data, model, "--once"),
        capture_output=True, text=True, cwd=ROOT, timeout=5 * SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # The kills fell into the work: most fields had been judged by processes that were killed.
    assert killed_at_work >= rounds // 2
    assert before >= rounds // 2
    with sqlite3.connect(data / FILE_NAME) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    with Records.open(data) as records:
        stored = list(records.select())
        sources = {name for record in stored for name in records.sources(record.id)}
    assert Counter(record.field_sha256 for record in stored) == Counter(feeder.delivered.keys())
    assert all(record.status != "error" for record in stored)
    for record in stored:
        assert Prediction.from_dict(record.result).status == record.status
    assert sources == {str(path) for path in folder.rglob("*.png")}, "copies are noted too"
    # What was said is kept: nothing that was printed is missing.
    whole = [line for line in printed if line.endswith("\n")]
    told = Counter(Prediction.from_dict(json.loads(line)).source for line in whole)
    assert set(told) <= {record.source for record in stored}
    assert max(told.values()) == 1


def test_ten_kills(tmp_path: Path) -> None:
    survive(tmp_path, 10)


@pytest.mark.slow
def test_a_hundred_kills(tmp_path: Path) -> None:
    survive(tmp_path, 100)
