"""``allsub-edge calibrate-camera``: store a camera's white field, or see whether it drifted."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from allsub_edge.cli.camera import add_camera_argument, frame_size, tell
from allsub_edge.cli.output import Outputs, check_place
from allsub_edge.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from allsub_edge.camera_profile import CameraProfile

HELP: Final[str] = """\
Take an empty, evenly lit field and store its light and colour, or compare with what is stored.

Move to a clean part of the slide without cells, defocus a little, and set lamp or exposure so that
the brightest part reads about 230. A field that is not empty, clipped, dark or unevenly lit is
refused with the reason. Exit code: 0 stored, or no drift; 1 drift; 2 refused or a set-up error.
"""

EPILOG: Final[str] = """\
examples:
  allsub-edge calibrate-camera 0 --out scope.json      store
  allsub-edge calibrate-camera 0 --check scope.json    drifted since? (each morning)
  allsub-edge calibrate-camera white.png --out scope.json
  allsub-edge camera 0 --profile scope.json            use it
"""

_IMAGES: Final[frozenset[str]] = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
_MAX_FAULTS: Final[int] = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``calibrate-camera``."""
    parser.epilog = EPILOG
    add_camera_argument(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", metavar="PROFILE", help="store the profile here, as JSON")
    what.add_argument("--check", metavar="PROFILE", help="compare with this profile")


def run(args: argparse.Namespace) -> int:
    """Store or compare; returns 0, or 1 if the camera drifted.

    Raises:
        FieldError: the field is no white field, or the camera failed.
        UsageError, DataError: the camera or the profile cannot be used.
    """
    from allsub_edge.camera_profile import CameraProfile, drift

    stored = None if args.check is None else CameraProfile.load(args.check)
    if args.out is not None:
        check_place(args.out, "--out")
        for source in (args.camera, args.camera.removeprefix("video:")):
            Outputs(args.out).refuse(source)
    now = measure(args.camera, frame_size(args.size), stored)
    levels = ", ".join(f"{value:.1f}" for value in now.white)
    if stored is None:
        now.save(args.out)
        gains = ", ".join(f"{value:.3f}" for value in now.gains)
        print(f"{args.out}: white ({levels}), gains ({gains}), {now.width}x{now.height}")
        return 0
    stored.check_size(now.width, now.height, now.camera)
    found = drift(stored, now)
    for text in found:
        print(f"drift: {text}")
    if not found:
        was = ", ".join(f"{value:.1f}" for value in stored.white)
        print(f"no drift since {stored.created}: white was ({was}), is ({levels})")
    return 1 if found else 0


def measure(
    camera: str, size: tuple[int, int] | None, stored: CameraProfile | None
) -> CameraProfile:
    """Take a white field with a camera, a video file or an image file.

    Args:
        camera: what the user wrote.
        size: columns and rows to ask of a camera.
        stored: a profile whose locked controls are to be used again, or None.

    Raises:
        FieldError, UsageError: see ``run``.
    """
    from allsub_edge.camera_profile import FRAMES, measure_profile
    from allsub_edge.sources import camera_spec, open_camera

    if Path(camera).suffix.lower() in _IMAGES:
        from allsub_edge.imaging.decode import read_field

        field = read_field(camera, smallest_side=None).rgb
        if size is not None:
            raise UsageError("usage", "--size is for cameras; an image has its own size")
        return measure_profile([field], camera)
    spec = camera_spec(camera)
    with open_camera(spec, size=size, profile=stored, warn=tell) as source:
        controls = source.controls()

        def frames() -> Iterator[NDArray[np.uint8]]:
            from allsub_edge.sources import Fault

            taken = faults = 0
            for frame in source.frames():
                if isinstance(frame, Fault):
                    faults += 1
                    if faults == _MAX_FAULTS or not taken:
                        raise frame.error
                    continue
                yield frame.rgb
                taken += 1
                if taken == FRAMES:
                    return

        return measure_profile(frames(), spec, controls)
