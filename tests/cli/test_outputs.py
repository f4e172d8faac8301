"""What the verbs write never destroys what they read, nor what is no file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from allsub_edge.cli.main import main
from allsub_edge.imaging.draw import encode_png
from allsub_edge.imaging.render import render_field
from tests.bounded import SECONDS
from tests.cli.test_infer import write_field
from tests.sources.scenes import white_field
from tests.test_atomic import full_after, read_in_background

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for seed in range(3):
        write_field(tmp_path / "in" / f"f{seed}.png", seed)
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(words: list[str], capsys: pytest.CaptureFixture[str], said: str = "inputs") -> None:
    capsys.readouterr()
    assert main(words) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert said in err


@pytest.mark.parametrize("given", ["in/f1.png", "in", "in/*.png", "./in/../in/f1.png"])
@pytest.mark.parametrize("name", ["in/f1.png", "soft.txt", "hard.txt"])
def test_infer_never_writes_onto_a_field(
    given: str, name: str, model: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "soft.txt").symlink_to("in/f1.png")
    (here / "hard.txt").hardlink_to(here / "in" / "f1.png")
    before = content(here)
    refused(["infer", given, "--model", model, "-o", name], capsys)
    assert content(here) == before


def test_an_output_that_is_the_last_input_is_refused_before_the_first_answer(
    model: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(here / "in" / "f1.png", here / "in" / "zz.png")
    words = ["in", "--model", model, "--overlay", "seen", "-o", "in/zz.png"]
    refused(["infer", *words], capsys)
    assert not list((here / "seen").glob("*")) if (here / "seen").exists() else True


def test_infer_spares_the_model_standard_input_and_a_field_that_may_not_be_read(
    model: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shutil.copy(model, here / "own.onnx")
    before = content(here)
    refused(["infer", "in", "--model", str(own), "-o", "own.onnx"], capsys)
    words = [sys.executable, "-m", "allsub_edge", "infer", "-", "--model", model, "-o"]
    with (here / "in" / "f0.png").open("rb") as stream:
        done = subprocess.run(
            [*words, str(here / "in" / "f0.png")],
            stdin=stream, capture_output=True, text=True, cwd=ROOT, timeout=SECONDS,
        )  # fmt: skip
    assert done.returncode == 2
    assert "one of the inputs" in done.stderr
    monkeypatch.setattr(os, "access", lambda *_: False)
    refused(["infer", "in/f0.png", "--model", model, "-o", "in/f0.png"], capsys)
    assert content(here) == before


def test_infer_with_workers_never_writes_onto_a_field(
    model: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(here)
    refused(["infer", "in", "--model", model, "--workers", "2", "-o", "in/f2.png"], capsys)
    assert content(here) == before


def test_an_output_of_an_earlier_run_is_replaced(model: str, here: Path) -> None:
    for _ in range(2):
        assert main(["infer", "in", "--model", model, "--quiet", "-o", "in/out.txt"]) == 0
        words = ["case", "in", "--id", "P", "--model", model, "--quiet", "-o", "in/case.txt"]
        main([*words, "--report", "in/p.html"])
    assert len((here / "in" / "out.txt").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "words", [["-o", "in/f1.png"], ["--report", "own.html"], ["-o", "toy.onnx"]]
)
def test_case_never_writes_onto_what_it_reads(
    words: list[str], model: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(model, here / "toy.onnx")
    write_field(here / "x.png", 7).rename(here / "own.html")
    before = content(here)
    given = ["case", "in", "own.html", "--id", "P", "--model", "toy.onnx", "--quiet"]
    refused([*given, *words], capsys)
    assert content(here) == before


def test_case_compares_its_two_outputs_by_where_they_are(
    model: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "sub").mkdir()
    (here / "same").symlink_to("sub")
    words = ["case", "in", "--id", "P", "--model", model]
    refused([*words, "-o", "q.html", "--report", "sub/../q.html"], capsys, "both name")
    refused([*words, "-o", "sub/q.html", "--report", "same/q.html"], capsys, "both name")
    assert not (here / "q.html").exists()


def test_case_says_before_it_reads_that_a_place_cannot_be_written(
    model: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "loop.html").symlink_to("loop.html")
    words = ["case", "in", "--id", "P", "--model", model, "--report", "loop.html"]
    refused(words, capsys, "loop.html: ")


@pytest.mark.parametrize("name", ["white.png", "soft.json"])
def test_calibrate_camera_never_writes_onto_its_picture(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "white.png").write_bytes(encode_png(white_field()))
    (here / "soft.json").symlink_to("white.png")
    before = content(here)
    refused(["calibrate-camera", "white.png", "--out", name], capsys)
    refused(["calibrate-camera", "video:white.png", "--out", name], capsys)
    assert content(here) == before


def test_records_go_into_a_fifo_and_a_device_stays(model: str, here: Path) -> None:
    fifo = here / "p"
    os.mkfifo(fifo)
    reader, got = read_in_background(fifo)
    assert main(["infer", "in", "--model", model, "--format", "csv", "-o", "p", "--quiet"]) == 0
    reader.join(SECONDS)
    assert len(got[0].splitlines()) == 4
    assert fifo.is_fifo()
    (here / "null").symlink_to(os.devnull)
    for verb in (["infer", "in"], ["case", "in", "--id", "P"]):
        main([*verb, "--model", model, "-o", "null", "--quiet"])
    assert (here / "null").is_symlink()
    assert Path(os.devnull).is_char_device()


def test_records_are_appended_to_what_dev_stdout_is(model: str, here: Path) -> None:
    words = [sys.executable, "-m", "allsub_edge", "infer", str(here / "in"), "--model", model]
    (here / "out").symlink_to("/dev/stdout")
    log = here / "log.txt"
    log.write_text("before\n")
    with log.open("a") as stream:
        done = subprocess.run(
            [*words, "-o", str(here / "out")],
            stdout=stream, stderr=subprocess.PIPE, cwd=ROOT, timeout=SECONDS,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = log.read_text().splitlines()
    assert lines[0] == "before" and len(lines) == 4


def test_waiting_for_the_reader_of_a_fifo_ends_with_sigterm(model: str, here: Path) -> None:
    os.mkfifo(here / "p")
    code = (
        "from allsub_edge.cli import output; import sys; opened = output.opened\n"
        "def telling(path): print('waits', flush=True); return opened(path)\n"
        "output.opened = telling; from allsub_edge.cli.main import main; sys.exit(main())"
    )
    words = ["infer", str(here / "in"), "--model", model, "-o", str(here / "p")]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "waits\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 143
    assert "ended by SIGTERM after 0 fields\n" in err


def test_a_link_named_with_o_stays_a_link(model: str, here: Path) -> None:
    (here / "real.txt").write_text("stale")
    (here / "lnk.txt").symlink_to("real.txt")
    assert main(["infer", "in", "--model", model, "-o", "lnk.txt", "--quiet"]) == 0
    assert (here / "lnk.txt").is_symlink()
    assert len((here / "real.txt").read_text().splitlines()) == 3


def test_a_full_disk_names_the_file(
    model: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["infer", "in", "--model", model, "--format", "json", "--quiet", "-o", "out.json"],
        ["infer", "in", "--model", model, "--quiet", "--overlay", "seen", "-o", "out.txt"],
        ["segment", "in", "-o", "seen.png"],
    ):
        with full_after(100):
            code = main(words)
        assert code == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        named = os.path.join("seen", "f0.overlay.png") if "--overlay" in words else words[-1]  # noqa: PTH118
        assert err.startswith(f"allsub-edge: error: {named}: ")
        assert ".part" not in err
    assert not [path for path in here.rglob("*") if path.is_file() and path.parent.name != "in"]


def test_an_error_cannot_send_escape_sequences(
    model: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", "in", "--model", "a\x1b]0;owned\x07\nb.onnx"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.rstrip("\n").isprintable()
    assert "\\x1b]0;owned\\x07" in err


# Refused as a whole: nothing is written.
SEGMENTS = [
    (["seg/", "--mask", "seg/"], "one of the fields"),
    (["seg/f.jpg", "seg/f.png", "-o", "seg/{stem}.png"], "one of the fields"),
    (["gone.png", "seg/f.png", "-o", "seg/f.png"], "one of the fields"),
    (["seg/f.jpg", "seg/f.png", "-o", "soft.png"], "one of the fields"),
    (["seg/f.jpg", "-o", "seen.png", "--mask", "./seen.png"], "both name"),
    (["seg/f.jpg", "-o", "seg/seen.png", "--mask", "same/seen.png"], "both name"),
    (["seg/f.jpg", "-o", "seg/{stem}.x.png", "--mask", "same/{stem}.x.png"], "both name"),
    (["seg/f.jpg", "-o", "fifo.png"], "no regular file"),
    (["seg/f.jpg", "--mask", "fifo.png"], "no regular file"),
]


@pytest.mark.parametrize(("words", "said"), SEGMENTS)
def test_segment_writes_onto_no_field_and_no_output_of_its_own(
    words: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "seg").mkdir()
    write_field(here / "seg" / "f.png", 1)
    (here / "seg" / "f.jpg").write_bytes(encode_png(render_field(2, "Pre")))
    (here / "same").symlink_to("seg")
    (here / "soft.png").symlink_to("seg/f.png")
    os.mkfifo(here / "fifo.png")
    before = content(here)
    refused(["segment", *words], capsys, said)
    assert content(here) == before
    assert (here / "fifo.png").is_fifo()


def test_segment_replaces_what_an_earlier_run_wrote(here: Path) -> None:
    (here / "masks").mkdir()
    words = ["segment", "in", "--mask", "masks", "-o", "seen/{stem}.png"]
    assert main(words) == 0
    first = content(here)
    (here / "masks" / "f1.png").write_bytes(b"of an earlier run")
    assert main(words) == 0
    assert content(here) == first


def test_segment_takes_no_output_for_a_field(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "in" / "z").mkdir()
    write_field(here / "in" / "z" / "last.png", 5)
    assert main(["segment", "in", "--mask", "in/z/{stem}-mask.png"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_the_picture_of_all_fields_spares_the_masks(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(["segment", "in/f0.png", "-o", "f0.png", "--mask", "./{stem}.png"], capsys, "mask")
    assert (here / "f0.png").stat().st_size < 2000


def test_segment_follows_links_to_one_file_only_once(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "m").mkdir()
    (here / "m" / "f1.png").symlink_to("f0.png")
    assert main(["segment", "in", "--mask", "m"]) == 1
    heard = capsys.readouterr()
    assert len(heard.out.splitlines()) == 2
    assert "f1.png was written for another" in heard.err


def test_segment_goes_on_past_a_file_that_cannot_be_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stem = "n" * 250
    write_field(here / "in" / "a.png", 4).rename(here / "in" / f"{stem}.png")
    assert main(["segment", "in", "--mask", "m/{stem}-mask.png", "-o", "seen.png"]) == 1
    heard = capsys.readouterr()
    assert len(heard.out.splitlines()) == 3
    assert len(heard.err.splitlines()) == 1
    assert f"m/{stem}-mask.png could not be written (" in heard.err
    assert len(list((here / "m").iterdir())) == 3
    assert main(["segment", "in", "--mask", "m/{stem}.png"]) == 0
    assert (here / "m" / f"{stem}.png").is_file()


def test_segment_prints_names_on_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "in/e\x1b[2Jvil\nf9.png  recipe cells.png"
    write_field(here / "in" / "a.png", 4).rename(here / name)
    assert main(["segment", name, "gone\x1b[2J\n.png"]) == 1
    for text in capsys.readouterr():
        assert len(text.splitlines()) == 1
        assert text.rstrip("\n").isprintable()
        assert "\\x1b[2J" in text
