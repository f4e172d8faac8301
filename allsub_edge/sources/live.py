"""A stream of frames, watched over, and the fields picked from it.

A grabber hands out raw frames; this module is what stands between it and the classifier. It
notices a camera that stops answering (and opens it again, with growing pauses, a bounded number of
times), black, malformed and frozen frames, and the end of a video; everything else goes to the
picker, and what that picks becomes a field, corrected by the camera's profile.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from allsub_edge.camera_profile import CameraProfile, DriftWatch
from allsub_edge.errors import AllsubError, FieldError
from allsub_edge.imaging.decode import MAX_PIXELS, MIN_SIDE
from allsub_edge.sources.base import Capture, Fault
from allsub_edge.sources.grabber import Frame, Grabber, Limits
from allsub_edge.sources.picker import Pick, Picker, PickerSettings

_SAMPLE: Final[int] = 4  # every 4th row and column tell black and frozen frames


def default_warn(text: str) -> None:
    """Warn as Python does."""
    warnings.warn(text, RuntimeWarning, stacklevel=2)


class _Count:
    """How often in a row something happened; speaks up once until it stops."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0

    def happened(self, yes: bool) -> bool:
        self.count = self.count + 1 if yes else 0
        return self.count == self.limit


class LiveSource:
    """Fields from a camera or a video file.

    Args:
        grabber: opened here.
        profile: corrects shading and colour of each field, and is watched for drift.
        every: least seconds between two fields.
        count: fields after which to stop; None means never.
        picker: when a frame is picked.
        limits: when a stream is disturbed.
        warn: called with a line for people.
        clock: seconds that never go back.
        sleep: waits for that many seconds; None means ``time.sleep``.

    Raises:
        AllsubError: the device or file cannot be opened.
    """

    def __init__(
        self,
        grabber: Grabber,
        *,
        profile: CameraProfile | None = None,
        every: float = 0.0,
        count: int | None = None,
        picker: PickerSettings | None = None,
        limits: Limits | None = None,
        warn: Callable[[str], None] = default_warn,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._grabber = grabber
        self._profile = profile
        self._every = every
        self._count = count
        self._picker = Picker(picker)
        self._limits = limits or Limits()
        self._warn = warn
        self._clock = clock
        self._sleep = sleep or time.sleep
        self._closed = False
        self._size: tuple[int, int] | None = None
        grabber.open()

    @property
    def name(self) -> str:
        """How messages name the camera or file."""
        return self._grabber.name

    def controls(self) -> dict[str, float]:
        """Give what the camera is locked to, as a profile stores it."""
        return self._grabber.controls()

    def __iter__(self) -> Iterator[Capture | Fault]:
        number = 0
        next_at = float("-inf")
        drift = DriftWatch() if self._profile else None
        last: Frame | None = None
        for frame in self.frames():
            if isinstance(frame, Fault):
                yield frame
                continue
            if last is None and self._profile is not None:
                height, width = frame.rgb.shape[:2]
                self._profile.check_size(width, height, self.name)
            last = frame
            pick = self._picker.feed(frame.rgb, frame.index, hold=frame.at < next_at)
            if pick is not None:
                number += 1
                next_at = frame.at + self._every
                yield self._capture(pick, number, drift)
                if number == self._count:
                    return
        if last is not None and not self._closed and last.at >= next_at:
            pick = self._picker.finish()
            if pick is not None:
                yield self._capture(pick, number + 1, drift)

    def frames(self) -> Iterator[Frame | Fault]:
        """Give every sound frame, unpicked and uncorrected, and the faults between them.

        Ends with the file, or when a lost camera does not come back, after a last fault.
        """
        limits, live = self._limits, self._grabber.live
        failures, bad, black, frozen = 0, _Count(limits.bad), _Count(limits.black), 0
        good_at = self._clock()
        before: NDArray[np.uint8] | None = None
        index = -1
        while not self._closed:
            raw = self._grabber.read()
            if raw is None:
                if not live:
                    yield from self._ended(index)
                    return
                failures += 1
                silent = self._clock() - good_at
                if failures < limits.failures and silent < limits.silence_s:
                    continue
                text = f"{self.name}: gives no more frames; is its cable in place?"
                if not (yield from self._again(FieldError("camera_lost", text))):
                    return
                failures, before, frozen, good_at = 0, None, 0, self._clock()
                continue
            failures, good_at, index = 0, self._clock(), index + 1
            problem = self._malformed(raw)
            if bad.happened(problem is not None) and problem is not None:
                yield Fault(self.name, problem)
            if problem is not None:
                continue
            sample = raw[::_SAMPLE, ::_SAMPLE].copy()
            dark = float(sample.mean()) < limits.black_below
            if black.happened(dark):
                text = f"{self.name}: the picture is black; is the lamp on and the shutter open?"
                yield Fault(self.name, FieldError("black", text))
            if dark:
                continue
            if live and before is not None and np.array_equal(sample, before):
                frozen += int(sample.min() != sample.max())
            else:
                frozen = 0
            before = sample
            if frozen >= limits.frozen:
                text = f"{self.name}: gives the same frame again and again; it hangs"
                if not (yield from self._again(FieldError("camera_frozen", text))):
                    return
                before, frozen, good_at = None, 0, self._clock()
                continue
            if frozen:
                continue  # nothing new to see, and the picker must not take it for a still stage
            rgb = np.asarray(cv2.cvtColor(raw, cv2.COLOR_BGR2RGB) if self._grabber.bgr else raw)
            yield Frame(rgb, index, self._grabber.position())

    def close(self) -> None:
        """Let go of the camera; may be called twice."""
        self._closed = True
        self._grabber.close()

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _capture(self, pick: Pick, number: int, drift: DriftWatch | None) -> Capture:
        rgb = pick.rgb if self._profile is None else self._profile.correct(pick.rgb)
        if drift is not None:
            for text in drift.look(rgb):
                self._warn(f"{self.name}: {text}")
        taken_at = datetime.now(UTC) if self._grabber.live else None
        return Capture(self._grabber.label(number, pick.index), rgb, taken_at)

    def _malformed(self, raw: NDArray[Any]) -> FieldError | None:
        if raw.dtype != np.uint8 or raw.ndim != 3 or raw.shape[2] != 3:
            text = f"frames are {raw.dtype} {raw.shape}, not 8-bit colour; choose another mode"
            return FieldError("unsupported", f"{self.name}: {text}")
        height, width = int(raw.shape[0]), int(raw.shape[1])
        if min(height, width) < MIN_SIDE or height * width > MAX_PIXELS:
            text = f"frames of {width}x{height} pixels are no fields; choose another size"
            return FieldError("unsupported", f"{self.name}: {text}")
        if self._size is None:
            self._size = (width, height)
        if self._size != (width, height):
            text = f"frames are {width}x{height} now and were {self._size[0]}x{self._size[1]}"
            return FieldError("wrong_size", f"{self.name}: {text}; start it again")
        return None

    def _ended(self, index: int) -> Iterator[Fault]:
        problem = self._grabber.complaint()
        if problem is None and index < 0:
            problem = FieldError("truncated", f"{self.name}: holds no frames; copy it again")
        if problem is not None:
            yield Fault(self.name, problem)

    def _again(self, problem: FieldError) -> Generator[Fault, None, bool]:
        """Tell of the problem and open the device again; returns whether that worked."""
        yield Fault(self.name, problem)
        why = ""
        for attempt in range(self._limits.reopen):
            self._grabber.close()
            self._sleep(min(8.0, 0.5 * 2**attempt))
            if self._closed:
                return False
            try:
                self._grabber.open()
            except AllsubError as error:
                why = f" ({error.message})"
                continue
            self._warn(f"{self.name}: is back")
            return True
        with suppress(AllsubError):
            self._grabber.close()
        text = f"{self.name}: did not come back after {self._limits.reopen} attempts{why}"
        yield Fault(self.name, FieldError("camera_gone", text))
        return False
