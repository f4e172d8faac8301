"""Files whole or not at all: links, devices, long names, and errors that name the file."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from allsub_edge.atomic import replacing, write_bytes, write_text
from tests.bounded import SECONDS
from tests.full_disk import full_after

ROOT = Path(__file__).parents[1]
NULL = Path(os.devnull)


def read_in_background(fifo: Path) -> tuple[threading.Thread, list[bytes]]:
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
    thread.start()
    return thread, got


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    target = tmp_path / "away" / "real.txt"
    target.write_text("stale")
    link, further = tmp_path / "link.txt", tmp_path / "further.txt"
    link.symlink_to("away/real.txt")
    further.symlink_to("link.txt")
    write_text(further, "fresh")
    assert further.is_symlink() and link.is_symlink()
    assert target.read_text() == "fresh"
    with pytest.raises(RuntimeError), replacing(link) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "fresh"
    assert os.listdir(target.parent) == ["real.txt"]  # noqa: PTH208


def test_a_link_that_leads_nowhere_yet_gets_its_target(tmp_path: Path) -> None:
    link = tmp_path / "link.txt"
    link.symlink_to("new.txt")
    write_bytes(link, b"fresh")
    assert link.is_symlink()
    assert (tmp_path / "new.txt").read_bytes() == b"fresh"


def test_a_loop_of_links_is_an_error(tmp_path: Path) -> None:
    link = tmp_path / "loop.txt"
    link.symlink_to("loop.txt")
    with pytest.raises(OSError) as caught:
        write_text(link, "x")
    assert caught.value.filename == str(link)
    assert link.is_symlink()


def test_text_goes_straight_into_a_fifo_and_a_device(tmp_path: Path) -> None:
    fifo, null = tmp_path / "p", tmp_path / "null.txt"
    os.mkfifo(fifo)
    reader, got = read_in_background(fifo)
    write_text(fifo, "Zählung\n")
    reader.join(SECONDS)
    assert got == ["Zählung\n".encode()]
    assert fifo.is_fifo()
    null.symlink_to(NULL)
    write_text(null, "gone")
    assert null.is_symlink() and NULL.is_char_device()


def test_nothing_else_replaces_a_fifo_or_a_device(tmp_path: Path) -> None:
    fifo, null = tmp_path / "p.png", tmp_path / "null.png"
    os.mkfifo(fifo)
    null.symlink_to(NULL)
    for path in (fifo, null):
        with pytest.raises(OSError, match="no regular file") as caught:
            write_bytes(path, b"x")
        assert caught.value.filename == str(path)
    assert fifo.is_fifo() and null.is_symlink() and NULL.is_char_device()
    with pytest.raises(IsADirectoryError, match="folder"):
        write_bytes(tmp_path, b"x")
    assert sorted(os.listdir(tmp_path)) == ["null.png", "p.png"]  # noqa: PTH208


@pytest.mark.skipif(sys.platform != "linux", reason="names of open files")
# /dev/stdout through a link: were it replaced after all, the machine's own would stay.
@pytest.mark.parametrize("name", ["link.txt", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_by_its_name_is_appended_to(name: str, tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to("/dev/stdout")
    code = f"from allsub_edge.atomic import write_text; write_text({name!r}, 'two\\n')"
    log = tmp_path / "log"
    log.write_text("one\n")
    with log.open("a") as stream:
        subprocess.run(
            [sys.executable, "-c", code], stdout=stream, cwd=tmp_path, check=True, timeout=SECONDS,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        stream.write("three\n")
    assert log.read_text() == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    "name",
    [
        "a" * 245 + ".png",
        "é" * 122 + ".png",
        os.fsdecode(b"\xff" * 240) + ".png",
        "x." + "s" * 240,
    ],
)
def test_a_name_as_long_as_the_system_allows_is_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with replacing(path) as temporary:
        assert path.suffix != ".png" or temporary.suffix == ".png"
        temporary.write_bytes(b"x")
    assert path.read_bytes() == b"x"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with full_after(100), pytest.raises(OSError) as caught:
        write_bytes(path, bytes(1000))
    assert (caught.value.filename, caught.value.filename2) == (str(path), None)
    assert str(caught.value).endswith(f"{str(path)!r}")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_error_shows_the_hidden_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.txt"

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / ".out.x.part.txt"))

    with pytest.raises(OSError) as renaming, replacing(path) as temporary:
        temporary.write_bytes(b"x")
        path.mkdir()  # comes in between: the rename itself fails
    assert (renaming.value.filename, renaming.value.filename2) == (str(path), None)
    assert "->" not in str(renaming.value)
    path.rmdir()
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(PermissionError) as making:
        write_text(path, "x")
    assert making.value.filename == str(path)


def test_an_error_of_something_else_keeps_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as other, replacing(tmp_path / "a"):
        (tmp_path / "absent").read_bytes()
    assert other.value.filename == str(tmp_path / "absent")
    # numpy's word for a short write has no number, and Python would not show it beside a name.
    with pytest.raises(OSError, match=r"^9 requested and 5 written$"), replacing(tmp_path / "a"):
        raise OSError("9 requested and 5 written")
