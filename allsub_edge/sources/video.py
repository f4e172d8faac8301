"""A video file as a stream of frames, read as fast as it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import cv2
from numpy.typing import NDArray

from allsub_edge.errors import FieldError

_COMPLETE: Final[float] = 0.9
"""Share of the announced frames below which a video counts as cut off. Some containers hold
no count, and FFmpeg then estimates it from the duration."""


class VideoGrabber:
    """Frames of a video file, by OpenCV (FFmpeg).

    Args:
        path: the file.
    """

    live = False
    bgr = True

    def __init__(self, path: str) -> None:
        self.name = path
        self._path = path
        self._capture: Any = None
        self._read = 0
        self._announced = 0.0
        self._rate = 0.0
        self._cut = False

    def open(self) -> None:
        """Open the file.

        Raises:
            FieldError: ``missing``, ``unreadable``, ``empty`` or ``not_a_video``.
        """
        path = Path(self._path)
        try:
            with path.open("rb") as stream:
                head = stream.read(8)
                size = stream.seek(0, 2)
        except FileNotFoundError:
            text = f"{path}: there is no such file; check the path"
            raise FieldError("missing", text) from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise FieldError("unreadable", f"{path}: cannot be read ({reason})") from None
        if not head:
            raise FieldError("empty", f"{path}: the file is empty; copy it again")
        # FFmpeg reads a cut AVI without a word and adapts the number of frames to what is there.
        self._cut = head[:4] == b"RIFF" and int.from_bytes(head[4:], "little") + 8 > size
        capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            capture.release()
            text = f"{path}: is no video that OpenCV reads, or is cut off; give AVI or MP4"
            raise FieldError("not_a_video", text)
        self._capture = capture
        self._read = 0
        self._announced = max(0.0, float(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self._rate = float(capture.get(cv2.CAP_PROP_FPS))

    def read(self) -> NDArray[Any] | None:
        """Give the next frame, BGR, or None at the end."""
        if self._capture is None:
            return None
        done, frame = self._capture.read()
        if not done or frame is None:
            return None
        self._read += 1
        return frame  # type: ignore[no-any-return]

    def controls(self) -> dict[str, float]:
        """Nothing: what was recorded stays as it is."""
        return {}

    def position(self) -> float:
        """Seconds from the start to the last frame, by its number and the frame rate."""
        rate = self._rate if 0 < self._rate < 1000 else 25.0
        return max(0, self._read - 1) / rate

    def complaint(self) -> FieldError | None:
        """Tell whether the file is cut off, or gave fewer frames than it announces."""
        if self._cut:
            text = f"{self.name}: the file is cut off; what there is was read; copy it again"
            return FieldError("truncated", text)
        if self._read >= _COMPLETE * self._announced:
            return None
        text = f"ends after {self._read} of {self._announced:.0f} frames; copy it again"
        return FieldError("truncated", f"{self.name}: {text}")

    def label(self, number: int, index: int) -> str:
        """Name a field by its frame, from 0, so that it can be found again."""
        return f"{self.name}#frame={index}"

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
