from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from allsub_edge.errors import UsageError
from allsub_edge.imaging import decode
from allsub_edge.imaging.draw import encode_png
from allsub_edge.imaging.render import render_field
from allsub_edge.sources import Capture, Fault, Source, open_source
from allsub_edge.sources.stream import MAX_NAME, STDIN, ImageStream, NameStream

ROOT = Path(__file__).parents[2]


def outcome(item: Capture | Fault) -> str:
    return item.error.code if isinstance(item, Fault) else Path(item.source).name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b 1.png", "new\nline.png", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_one_image_is_read_whole() -> None:
    data = encode_png(render_field(1))
    with ImageStream(io.BytesIO(data)) as source:
        assert isinstance(source, Source)
        [found] = list(source)
    assert isinstance(found, Capture)
    assert (found.source, found.field, found.taken_at) == (STDIN, data, None)


def test_no_bytes_and_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [outcome(item) for item in ImageStream(io.BytesIO(b""))] == ["empty"]
    monkeypatch.setattr(decode, "MAX_BYTES", 10)
    assert [outcome(item) for item in ImageStream(io.BytesIO(b"x" * 11))] == ["too_large"]
    assert [outcome(item) for item in ImageStream(io.BytesIO(b"x" * 10))] == [STDIN]


def test_a_stream_that_fails() -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    assert [outcome(item) for item in ImageStream(Broken())] == ["unreadable"]  # type: ignore[arg-type]
    [found] = list(NameStream("-", stream=Broken()))  # type: ignore[arg-type]
    assert "Input/output error" in str(found.error) if isinstance(found, Fault) else False


@pytest.mark.parametrize("end", [b"\n", b"", b"\n\n\n"])
def test_names_one_per_line(folder: Path, end: bytes) -> None:
    names = [folder / "a.png", "", folder / "gone.png", folder / "b 1.png\r", folder / "sub"]
    text = "\n".join(str(name) for name in names).encode() + end
    found = [outcome(item) for item in NameStream("-", stream=io.BytesIO(text))]
    assert found == ["a.png", "missing", "b 1.png", "c.png"]


def test_names_ended_by_nul_may_hold_anything(folder: Path) -> None:
    text = b"".join(os.fsencode(path) + b"\0" for path in sorted(folder.glob("*.png")))
    found = [outcome(item) for item in NameStream("-", separator=b"\0", stream=io.BytesIO(text))]
    assert found == ["a.png", "b 1.png", "new\nline.png"]


def test_names_from_a_file(folder: Path, tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text(f"{folder}/a.png\n{folder}/sub\n")
    with open_source(f"names:{listing}", recursive=False) as source:
        assert [outcome(item) for item in source] == ["a.png", "c.png"]
    listing.write_bytes(os.fsencode(folder / "new\nline.png"))
    with open_source(f"names0:{listing}") as source:
        assert [outcome(item) for item in source] == ["new\nline.png"]
    with pytest.raises(UsageError, match="no-such-list"):
        open_source("names:no-such-list")


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_names_do_not_depend_on_how_the_bytes_arrive(folder: Path, size: int) -> None:
    class Drip(io.BytesIO):
        def read1(self, _: int | None = -1) -> bytes:
            return self.read(size)

    text = f"{folder}/a.png\n{'x' * 3 * MAX_NAME}\n{folder}/b 1.png".encode()
    found = [outcome(item) for item in NameStream("-", stream=Drip(text))]
    assert found == ["a.png", "unsupported", "b 1.png"]


def test_a_binary_file_in_place_of_names_needs_little_memory() -> None:
    class Zeros(io.RawIOBase):
        left = 400

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            return b"\1" * size if self.left > 0 else b""

    source = NameStream("-", stream=Zeros())  # type: ignore[arg-type]
    assert [outcome(item) for item in source] == ["unsupported"]


def test_names_are_answered_as_they_come(folder: Path) -> None:
    reading, writing = os.pipe()
    found: list[str] = []
    first, second = threading.Event(), threading.Event()

    def consume() -> None:
        with os.fdopen(reading, "rb") as stream:
            for item in NameStream("-", stream=stream):
                found.append(outcome(item))
                (second if first.is_set() else first).set()

    worker = threading.Thread(target=consume, daemon=True)
    worker.start()
    os.write(writing, f"{folder}/a.png\n".encode())
    assert first.wait(10), "the first name must be taken while the pipe is open"
    os.write(writing, f"{folder}/b 1.png\n".encode())
    assert second.wait(10)
    os.close(writing)
    worker.join(10)
    assert not worker.is_alive()
    assert found == ["a.png", "b 1.png"]


def test_closing_stops(folder: Path) -> None:
    source = NameStream("-", stream=io.BytesIO(f"{folder}/a.png\n{folder}/a.png\n".encode()))
    items = iter(source)
    next(items)
    source.close()
    assert list(items) == []
    image = ImageStream(io.BytesIO(b"data"))
    image.close()
    assert list(image) == []


def test_real_standard_input(folder: Path) -> None:
    code = (
        "from allsub_edge.sources import open_source\n"
        "import sys\n"
        "for item in open_source(sys.argv[1]): print(item.source, len(getattr(item, 'field', b'')"
        " if isinstance(getattr(item, 'field', None), bytes) else b''))\n"
    )

    def ask(spec: str, data: bytes) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, spec],
            input=data,
            capture_output=True,
            cwd=ROOT,
            check=True,
            timeout=60,
        )
        return done.stdout.decode().strip()

    assert ask("-", b"12345") == f"{STDIN} 5"
    assert ask("names:-", f"{folder}/a.png".encode()) == f"{folder}/a.png 0"


def test_a_terminal_is_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    for spec in ("-", "names:-"):
        with pytest.raises(UsageError, match="pipe"):
            open_source(spec)
