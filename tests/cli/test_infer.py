from __future__ import annotations

import csv
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import pytest

from allsub_edge.classes import NOT_A_MEDICAL_DEVICE
from allsub_edge.cli.formats import printable
from allsub_edge.cli.main import main
from allsub_edge.imaging.render import render_field
from allsub_edge.prediction import ROW_COLUMNS, Prediction
from tests import toy_model
from tests.bounded import SECONDS, bounded

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "toy.onnx"
    raw = toy_model.manifest_dict()
    raw["calibration"]["conformal"] = None
    path.write_bytes(toy_model.sealed(raw))
    return str(path)


def png_of_zeros(side: int) -> bytes:
    """A valid RGB PNG of side x side black pixels, its pixels compressed without holding them.

    Zero bytes deflate in independent blocks, so one block repeated is the whole image; the
    Adler-32 of n zero bytes is n mod 65521 in its upper half and 1 in its lower.
    """
    rows = 100
    assert side % rows == 0
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(bytes(rows * (3 * side + 1))) + deflate.flush(zlib.Z_FULL_FLUSH)
    adler = struct.pack(">HH", side * (3 * side + 1) % 65521, 1)
    pixels = b"\x78\x01" + block * (side // rows) + b"\x03\x00" + adler

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def write_field(path: Path, seed: int, label: str = "Pro", size: int = 224) -> Path:
    cv2.imwrite(str(path), render_field(seed, label, size)[..., ::-1])
    return path


@pytest.fixture
def fields(tmp_path: Path) -> list[str]:
    folder = tmp_path / "fields"
    folder.mkdir()
    labels = ("Pre", "Benign", "Pro")
    return [str(write_field(folder / f"{9 - i}.png", i, labels[i])) for i in range(3)]


def lines_of(text: str) -> list[str]:
    return text.splitlines()


def test_text_has_one_line_per_field_in_the_order_given(
    model: str, fields: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", *fields, "--model", model]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[-1] for line in lines_of(out)] == fields
    assert all(
        line.startswith("ok ") and " % " in line and " ms " in line for line in lines_of(out)
    )
    assert "3 fields: 3 ok, 0 uncertain, 0 unfit, 0 error" in err
    assert NOT_A_MEDICAL_DEVICE in err


def test_ndjson_records_are_predictions(
    model: str, fields: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["infer", *fields, "--model", model, "--format", "ndjson", "--threads", "1"]
    assert main(arguments) == 0
    records = [Prediction.from_dict(json.loads(x)) for x in lines_of(capsys.readouterr().out)]
    assert [r.source for r in records] == fields
    assert len({tuple(r.probabilities.values()) for r in records}) == 3
    assert {r.model.threads for r in records} == {1}


def test_all_formats_say_the_same(
    model: str, fields: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    got = {}
    for name in ("ndjson", "json", "csv", "text"):
        assert main(["infer", *fields, "--model", model, "--format", name]) == 0
        got[name] = capsys.readouterr().out
    array = json.loads(got["json"])
    table = list(csv.DictReader(io.StringIO(got["csv"])))
    lines = [json.loads(line) for line in lines_of(got["ndjson"])]
    assert tuple(table[0]) == ROW_COLUMNS
    for record, row, line, text in zip(array, table, lines, lines_of(got["text"]), strict=True):
        assert record["probabilities"] == line["probabilities"]
        assert float(row["p_Pre"]) == record["probabilities"]["Pre"]
        assert row["label"] == record["label"] == text.split()[1]


def test_a_folder_and_a_glob_are_walked(
    model: str, fields: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(fields[0]).parent
    for given in (str(folder), str(folder / "*.png")):
        assert main(["infer", given, "--model", model, "--format", "ndjson"]) == 0
        sources = [json.loads(x)["source"] for x in lines_of(capsys.readouterr().out)]
        assert sources == sorted(fields)


def test_out_is_written_whole(
    model: str, fields: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "records.json"
    assert main(["infer", *fields, "--model", model, "--format", "json", "-o", str(out)]) == 0
    assert len(json.loads(out.read_text())) == 3
    assert capsys.readouterr().out == ""
    before = out.read_bytes()
    # A set-up error must leave the old file alone, and no temporary file behind.
    assert main(["infer", *fields, "--model", "no.onnx", "-o", str(out)]) == 2
    assert out.read_bytes() == before
    assert [p.name for p in out.parent.iterdir()] == ["records.json"]


def test_quiet_says_nothing_on_stderr(
    model: str, fields: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", fields[0], "gone.png", "--model", model, "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert len(lines_of(out)) == 2


def bad_inputs(folder: Path) -> dict[str, str]:
    """One input of each bad kind -> the word its line must hold."""
    ok, jpeg = cv2.imencode(".jpg", render_field(5, "Pro", 512)[..., ::-1])
    assert ok
    (folder / "cut.jpg").write_bytes(jpeg.tobytes()[: len(jpeg) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("this is a shopping list\n" * 20)
    (folder / "bare").mkdir()
    (folder / "bomb.png").write_bytes(png_of_zeros(30_000))
    names = ("cut.jpg", "empty.png", "text.jpg", "absent.jpg", "bare", "bomb.png")
    codes = ("truncated", "empty", "not_an_image", "missing", "no_fields", "too_large")
    return {str(folder / name): code for name, code in zip(names, codes, strict=True)}


def test_every_bad_input_gives_one_clear_line_and_the_others_are_answered(
    model: str, fields: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = bad_inputs(tmp_path)
    # Good fields before, between and after the bad ones.
    paths = [fields[0], *list(bad)[:3], fields[1], *list(bad)[3:], fields[2]]
    assert main(["infer", *paths, "--model", model]) == 1
    out, err = capsys.readouterr()
    lines = lines_of(out)
    assert len(lines) == len(paths)
    for path, line in zip(paths, lines, strict=True):
        assert path in line
        assert line.startswith("error " if path in bad else "ok ")
    assert "9 fields: 3 ok, 0 uncertain, 0 unfit, 6 error" in err
    assert "Traceback" not in err

    assert main(["infer", *paths, "--model", model, "--format", "ndjson"]) == 1
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in lines_of(out)]
    assert [r["source"] for r in records] == paths
    codes = {r["source"]: r["error"]["code"] for r in records if r["status"] == "error"}
    assert codes == bad
    # Whoever reads only the screen learns of every bad input too, in one line each.
    assert sum(line.startswith("error ") for line in lines_of(err)) == len(bad)


@pytest.mark.parametrize("kind", ["text", "ndjson", "json", "csv"])
def test_only_bad_inputs_exit_with_one(
    kind: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", str(tmp_path / "a.png"), "--model", model, "--format", kind]) == 1
    assert capsys.readouterr().out


@pytest.mark.parametrize("position", [0, 40, 500, 2500, -3000, -700, -60, -40, -1])
@pytest.mark.parametrize("verb", ["infer", "check", "info"])
def test_a_model_with_one_byte_flipped_is_refused_in_one_line(
    position: int, verb: str, fields: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(toy_model.complete())
    data[position] ^= 0x10
    path = tmp_path / "flipped.onnx"
    path.write_bytes(data)
    arguments = [verb, fields[0], "--model", str(path)] if verb == "infer" else [verb, str(path)]
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(lines_of(err)) == 1
    assert err.startswith("allsub-edge: error: ")
    assert str(path) in err
    assert "damaged" in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["f.png", "--format", "xml"],
        ["f.png", "--threads", "none"],
        ["f.png", "--threads", "0"],
        ["f.png", "--model", "no-such.onnx"],
        ["f.png", "-o", "."],
        ["f.png", "--nonsense"],
    ],
)
def test_usage_errors_exit_with_two_in_one_line(
    arguments: list[str], model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments if "--model" in arguments else [*arguments, "--model", model]
    assert main(["infer", *given]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(lines_of(err)) == 1
    assert err.startswith("allsub-edge: error: ")


def test_a_file_name_cannot_forge_lines(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "a\nok         Pro.png"
    good = write_field(tmp_path / "x.png", 1)
    good.rename(tmp_path / name)
    assert main(["infer", str(tmp_path / name), str(tmp_path / "b\rc.png"), "--model", model]) == 1
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 2
    assert printable(name) in out


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes only on Linux")
def test_a_file_name_that_is_not_utf8(model: str, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe.png")
    write_field(tmp_path / "x.png", 1).rename(path)
    for kind in ("text", "ndjson", "csv"):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "allsub_edge",
                "infer",
                path,
                "--model",
                model,
                "--format",
                kind,
            ],
            capture_output=True,
            cwd=ROOT,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr


def test_records_stream_and_a_closed_pipe_is_quiet(model: str, fields: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "allsub_edge", "infer", *fields * 300, "--model", model,
         "--format", "ndjson", "--quiet"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    with bounded(process):
        first = json.loads(process.stdout.readline())
    # 900 records are about 600 kB, ten times a pipe's buffer: the run cannot be over yet.
    assert process.poll() is None
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert first["source"] == fields[0]
    assert process.stderr.read() == b""
    process.stderr.close()
