"""``infer`` as a process: standard input, SIGTERM, threads, memory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from allsub_edge.cli.main import main
from allsub_edge.imaging.render import render_field
from tests.bounded import SECONDS, bounded

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "allsub_edge", "infer"]


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "field.png"
    cv2.imwrite(str(path), render_field(1, "Pro")[..., ::-1])
    return path


def start(*arguments: str, **options: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # else bytes that were read ahead would be missing from `communicate`
        cwd=ROOT,
        **options,
    )


def piped(data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments], input=data, capture_output=True, cwd=ROOT, timeout=SECONDS
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell that closes streams")
@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
def test_closed_streams_keep_nothing_from_its_place(
    model: str, png: Path, tmp_path: Path, closed: str
) -> None:
    out = tmp_path / "records.ndjson"
    words = [*COMMAND, str(png), "--model", model, "--format", "ndjson", "-o", str(out)]
    close = " ".join(f"{number}>&-" for number in closed)
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {close}', "sh", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=ROOT,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert json.loads(out.read_text())["error"] is None


def test_records_that_have_nowhere_to_go_are_an_error(model: str, png: Path) -> None:
    words = [*COMMAND, str(png), "--model", model]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *words], capture_output=True, cwd=ROOT, timeout=SECONDS
    )
    assert done.returncode == 2
    assert b"standard output is closed: name a file with -o" in done.stderr


def test_remarks_stay_out_of_the_records_when_stderr_is_closed(model: str, png: Path) -> None:
    words = [*COMMAND, str(png), "nowhere.png", "--model", model, "--format", "ndjson"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *words], capture_output=True, cwd=ROOT, timeout=SECONDS
    )
    assert done.returncode == 1
    assert [json.loads(line)["source"] for line in done.stdout.splitlines()] == [
        str(png),
        "nowhere.png",
    ]


def test_one_image_comes_from_standard_input(model: str, png: Path, tmp_path: Path) -> None:
    arguments = ("--model", model, "--format", "ndjson", "--overlay", str(tmp_path / "seen"))
    done = piped(png.read_bytes(), str(png), "-", *arguments)
    assert done.returncode == 0, done.stderr
    named, standard = (json.loads(line) for line in done.stdout.splitlines())
    assert standard["source"] == "-"
    assert standard["probabilities"] == named["probabilities"]
    names = sorted(path.name for path in (tmp_path / "seen").iterdir())
    assert names == ["field.overlay.png", "stdin.overlay.png"]


@pytest.mark.parametrize(("data", "code"), [(b"", "empty"), (b"a list of things", "not_an_image")])
def test_bad_standard_input_is_one_error_record(data: bytes, code: str, model: str) -> None:
    done = piped(data, "-", "--model", model, "--format", "ndjson")
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["error"]["code"] == code
    assert b"Traceback" not in done.stderr


def test_standard_input_is_one_image_only(model: str) -> None:
    done = piped(b"x", "-", "-", "--model", model)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"given twice" in done.stderr


@pytest.mark.parametrize("threads", ["0", "-1", "1.5", "two", "257", "99999999999"])
def test_threads_are_a_sensible_number(
    threads: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", "f.png", "--model", model, f"--threads={threads}"]) == 2
    err = capsys.readouterr().err
    assert "from 1 to 256" in err
    assert len(err.splitlines()) == 1


def test_sigterm_ends_after_whole_records(model: str, png: Path) -> None:
    process = start(*[str(png)] * 5000, "--model", model, "--format", "json")
    assert process.stdout is not None
    with bounded(process):
        assert process.stdout.read(1) == b"["
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143
    records = json.loads(b"[" + out)
    assert 0 < len(records) < 5000
    assert f"ended by SIGTERM after {len(records)} field".encode() in err
    assert b"Traceback" not in err


def test_sigterm_leaves_the_old_output_file_alone(model: str, png: Path, tmp_path: Path) -> None:
    out = tmp_path / "records" / "out.ndjson"
    out.parent.mkdir()
    out.write_text("old")
    seen = tmp_path / "seen"
    process = start(
        *[str(png)] * 5000,
        *("--model", model, "--format", "ndjson", "-o", str(out), "--overlay", str(seen)),
    )
    # The first picture shows that the run is under way.
    with bounded(process):
        while process.poll() is None and not (seen.is_dir() and any(seen.glob("[!.]*.png"))):
            time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert b"was not written" in err
    assert out.read_text() == "old"
    assert [p.name for p in out.parent.iterdir()] == ["out.ndjson"]
    # Every picture is whole, and no half of one is left.
    assert all(cv2.imread(str(p)) is not None for p in seen.iterdir())
    assert not [p.name for p in seen.iterdir() if p.name.startswith(".")]


def test_sigterm_ends_the_wait_for_standard_input(model: str, png: Path) -> None:
    process = start(str(png), "-", "--model", model, "--format", "ndjson", stdin=subprocess.PIPE)
    assert process.stdout is not None
    with bounded(process):
        first = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    # Standard input stays open all the while.
    assert process.wait(timeout=60) == 143
    assert first["source"] == str(png)
    assert process.stdout.read() == b""
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def test_the_handler_of_the_embedding_program_comes_back(
    model: str, png: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(["infer", str(png), "--model", model]) == 0
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_flat_and_below_150_mb(model: str, png: Path) -> None:
    # VmHWM, not getrusage: that one starts from what the parent held at the fork.
    code = (
        "import sys; from allsub_edge.cli.main import main; assert main(sys.argv[1:]) == 0; "
        "print(next(x.split()[1] for x in open('/proc/self/status') if 'VmHWM' in x))"
    )

    def peak(count: int) -> float:
        out = str(png.with_suffix(".txt"))
        arguments = ["infer", *[str(png)] * count, "--model", model, "-o", out]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments, "--quiet", "--threads", "1"],
            capture_output=True,
            cwd=ROOT,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout) / 1024

    few, many = peak(20), peak(420)
    assert many < 150
    # 400 fields of 150 kB would be 60 MB.
    assert many - few < 6
