"""Where fields come from: files, folders, globs, standard input, a camera, a video file.

``open_source`` turns one word of the user's into a source; see there for the words. Nothing heavy
is imported before a source needs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from allsub_edge.errors import UsageError
from allsub_edge.sources.base import Capture, Fault, PathSource, Source, sourced

if TYPE_CHECKING:
    from allsub_edge.sources.live import LiveSource

__all__ = ["Capture", "Fault", "Source", "camera_spec", "open_camera", "open_source", "sourced"]

_KINDS: Final = re.compile(r"(camera|picamera|video|names|names0):(.*)", re.DOTALL)
_PATH_OPTIONS: Final = frozenset({"recursive"})


def open_source(spec: str, **options: Any) -> Source:
    """Open where fields come from.

    ============================  ===============================================================
    ``spec``                      gives
    ============================  ===============================================================
    a file, a folder, a glob      its images, as ``paths.expand``; option ``recursive``
    ``-``                         standard input: exactly one image file, read to its end
    ``names:FILE``, ``names:-``   files, folders and globs named in FILE, one per line
    ``names0:FILE``, ``names0:-`` the same, each name ended by NUL, as ``find -print0`` writes
    ``camera:N``, ``camera:/dev/videoN``  a V4L2 camera; options as ``open_camera``
    ``picamera:``, ``picamera:N`` a Raspberry Pi camera (the N-th); options as ``open_camera``
    ``video:FILE``                a video file; options as ``open_camera``
    ============================  ===============================================================

    A file whose name begins like one of these words is given as ``./camera:0``.

    Raises:
        UsageError: an option that the source does not have, a camera that is missing or may not
            be used, picamera2 not installed, standard input is a terminal.
        FieldError: the video file cannot be read.
        DataError: the profile named in the options is missing or damaged.
    """
    match = _KINDS.fullmatch(spec)
    if match is None and spec != "-":
        from allsub_edge.sources.paths import expand

        _only(options, _PATH_OPTIONS, spec)
        return PathSource(expand([spec], **options))
    kind, rest = ("-", "") if match is None else match.groups()
    if kind in ("camera", "picamera", "video"):
        return open_camera(spec, **options)
    from allsub_edge.sources.stream import ImageStream, NameStream

    _only(options, frozenset() if kind == "-" else _PATH_OPTIONS, spec)
    if kind == "-":
        return ImageStream()
    if not rest:
        raise UsageError("usage", f"{spec}: name the file with the names, or - for standard input")
    return NameStream(rest, separator=b"\0" if kind == "names0" else b"\n", **options)


def camera_spec(text: str) -> str:
    """What people write for a camera -> a spec: ``0``, ``/dev/video0``, ``picamera``, a file."""
    if _KINDS.fullmatch(text):
        return text
    device = re.fullmatch(r"(?:/dev/video)?(\d+)", text)
    if device is not None:
        return f"camera:{int(device[1])}"
    return "picamera:" if text == "picamera" else f"video:{text}"


def open_camera(
    spec: str,
    *,
    size: tuple[int, int] | None = None,
    controls: Mapping[str, float] | None = None,
    warn: Callable[[str], None] | None = None,
    **options: Any,
) -> LiveSource:
    """Open a camera or a video file, whose sharpest settled frames become fields.

    Args:
        spec: ``camera:N``, ``camera:/dev/videoN``, ``picamera:``, ``picamera:N``, ``video:FILE``.
        size: columns and rows to ask of a camera; None means its own choice (V4L2), or that of
            ``picamera.DEFAULT_SIZE``. A video file has its size.
        controls: exposure, gain and colour gains to lock a camera to, see ``camera.CONTROLS`` and
            ``picamera.CONTROLS``; None means those of the profile if there is one, else what the
            camera's automatics chose in the warm-up.
        warn: called with a line for people, once per trouble that does not stop the source;
            None means ``warnings.warn``.
        options: of ``live.LiveSource``: ``profile``, ``every``, ``count``, ``picker``, ``limits``.

    Raises:
        UsageError, FieldError, DataError: see ``open_source``.
    """
    from allsub_edge.camera_profile import CameraProfile
    from allsub_edge.sources.grabber import Grabber
    from allsub_edge.sources.live import LiveSource, default_warn

    match = _KINDS.fullmatch(spec)
    kind, rest = match.groups() if match else ("", "")
    warn = warn or default_warn
    profile = options.pop("profile", None)
    if isinstance(profile, str | Path):
        profile = CameraProfile.load(profile)
    if controls is None and profile is not None and profile.camera == spec:
        controls = profile.controls
    grabber: Grabber
    if kind == "camera":
        from allsub_edge.sources.camera import V4L2Grabber

        grabber = V4L2Grabber(rest, size=size, controls=controls, warn=warn)
    elif kind == "picamera":
        from allsub_edge.sources.picamera import PicameraGrabber

        grabber = PicameraGrabber(rest, size=size, controls=controls, warn=warn)
    elif kind == "video":
        from allsub_edge.sources.video import VideoGrabber

        grabber = VideoGrabber(rest)
    else:
        raise UsageError("usage", f"{spec}: is no camera: give camera:N, picamera: or video:FILE")
    _only(options, frozenset({"every", "count", "picker", "limits"}), spec)
    return LiveSource(grabber, profile=profile, warn=warn, **options)


def _only(options: Mapping[str, Any], known: frozenset[str], spec: str) -> None:
    strange = sorted(set(options) - known)
    if strange:
        raise UsageError("usage", f"{spec}: has no option {', '.join(strange)}")
