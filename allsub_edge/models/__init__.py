"""The model files shipped with the package."""

from __future__ import annotations

from pathlib import Path

from allsub_edge.errors import ModelFileError


def default_path(folder: Path | None = None) -> Path:
    """Path of the model used when none is named: the int8 ``.onnx`` file in this folder.

    Shipped files are called ``NAME-VERSION-int8.onnx``; of several, the last by name is used.

    Args:
        folder: where to look; None means the folder of this package.

    Raises:
        ModelFileError: ``no_default_model``, when the package was installed without one.
    """
    found = sorted((folder or Path(__file__).parent).glob("*int8*.onnx"))
    if not found:
        raise ModelFileError(
            "no_default_model",
            "no model is shipped with this installation: name one with --model FILE "
            "or allsub_edge.load(FILE)",
        )
    return found[-1]
