"""A real file, written by OpenCV and read by FFmpeg, with known stage moves and focus sweeps."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from allsub_edge.errors import FieldError
from allsub_edge.sources import Capture, Fault, open_source
from tests.sources.scenes import SIDE, Microscope, Session, session

RATE = 25.0


def write(path: Path, planned: Session, fourcc: str = "MJPG") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), RATE, (SIDE, SIDE))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {fourcc}")
    scope = Microscope()
    for moment in planned.moments:
        writer.write(np.ascontiguousarray(scope.look(moment)[..., ::-1]))
    writer.release()
    return path


@pytest.fixture(scope="module")
def planned() -> Session:
    return session((0, 448, 896, 448, 1344))  # the fourth is the second again


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, planned: Session) -> Path:
    return write(tmp_path_factory.mktemp("video") / "smear.avi", planned)


def index_of(item: Capture | Fault) -> int:
    return int(item.source.rpartition("#frame=")[2])


def test_the_sharpest_frame_of_each_new_field(film: Path, planned: Session) -> None:
    with open_source(f"video:{film}") as source:
        found = list(source)
    expected = [index for number, index in enumerate(planned.sharpest) if number != 3]
    assert [index_of(item) for item in found] == expected
    for item in found:
        assert isinstance(item, Capture)
        assert item.taken_at is None
        place = planned.moments[index_of(item)].x
        true = Microscope().slide[:, place : place + SIDE].astype(int)
        off = np.abs(np.asarray(item.field).astype(int) - true).mean(axis=(0, 1))
        # RGB, not BGR: red and blue of these fields differ by far more than JPEG and noise do.
        assert off.max() < 5
        assert np.abs(true[..., 0] - true[..., 2]).mean() > 20


def test_every_counts_the_seconds_of_the_film(film: Path, planned: Session) -> None:
    with open_source(f"video:{film}", every=1.5) as source:
        times = [index_of(item) / RATE for item in source]
    assert 1 < len(times) < 4
    with open_source(f"video:{film}", count=1) as source:
        assert len(list(source)) == 1


def test_the_same_file_gives_the_same_fields(film: Path) -> None:
    runs = []
    for _ in range(2):
        with open_source(f"video:{film}") as source:
            runs.append([(item.source, bytes(np.asarray(item.field))) for item in source])
    assert runs[0] == runs[1]


def test_a_film_that_is_cut_off_gives_what_it_has_and_says_so(
    film: Path, planned: Session, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.avi"
    data = film.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    with open_source(f"video:{cut}") as source:
        found = list(source)
    fields = [item for item in found if isinstance(item, Capture)]
    assert [index_of(item) for item in fields][:2] == planned.sharpest[:2]
    [fault] = [item for item in found if isinstance(item, Fault)]
    assert fault.error.code == "truncated"
    assert "copy it again" in fault.error.message


@pytest.mark.parametrize(
    ("content", "code"), [(None, "missing"), (b"", "empty"), (b"RIFF no video" * 50, "not_a_video")]
)
def test_a_file_that_is_no_video(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "x.avi"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FieldError) as caught:
        open_source(f"video:{path}")
    assert caught.value.code == code
    assert str(path) in caught.value.message


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match="cannot be read"):
        open_source(f"video:{tmp_path}")


def test_closing_twice_and_reading_on(film: Path) -> None:
    source = open_source(f"video:{film}")
    source.close()
    source.close()
    assert list(source) == []
