"""Every format a model can be written in, by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from allsub_edge.errors import UsageError


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: as ``--formats`` takes it.
        container: ``onnx`` or ``tflite``; also the suffix of the file.
        precision: the manifest's ``precision``; part of the file's name.
        integer: convolutions run in integers, or at least keep their weights as such: there are
            layers that can be kept in float.
        what: one line for people.
    """

    name: str
    container: str
    precision: str
    integer: bool
    what: str

    def file_name(self, name: str, version: str, interface: str) -> str:
        """``NAME-VERSION-int8.onnx``; another interface than ``field`` is named too."""
        middle = "" if interface == "field" else f"{interface}-"
        return f"{name}-{version}-{middle}{self.precision}.{self.container}"


FORMATS: Final[dict[str, Format]] = {
    entry.name: entry
    for entry in (
        Format("onnx-float32", "onnx", "float32", False, "the trained network as it is"),
        Format("onnx-float16", "onnx", "float16", False, "weights in 16 bits, arithmetic in 32"),
        Format("onnx-dynamic", "onnx", "dynamic-int8", True, "int8 weights alone"),
        Format("onnx-int8", "onnx", "int8", True, "static QDQ int8, a scale per output channel"),
        Format(
            "onnx-int8-per-tensor", "onnx", "int8-per-tensor", True, "static QDQ int8, one scale"
        ),
        Format("tflite-float32", "tflite", "float32", False, "the trained network as it is"),
        Format("tflite-float16", "tflite", "float16", False, "weights in 16 bits"),
        Format("tflite-dynamic", "tflite", "dynamic-int8", True, "dynamic range: int8 weights"),
        Format("tflite-int8", "tflite", "int8", True, "full int8, a scale per output channel"),
        Format("tflite-int8-per-tensor", "tflite", "int8-per-tensor", True, "full int8, one scale"),
        Format("tflite-int16x8", "tflite", "int16x8", True, "int16 activations, int8 weights"),
    )
}

DEFAULT: Final = ("onnx-float32", "onnx-int8")
INTERFACES: Final = ("field", "two-channel")


def chosen(text: str | Iterable[str]) -> tuple[str, ...]:
    """Format names from ``a,b``, ``onnx``, ``tflite`` or ``all``, in the order of the table.

    Raises:
        UsageError: ``unknown_format``.
    """
    asked = text.split(",") if isinstance(text, str) else list(text)
    wanted: set[str] = set()
    for word in (part.strip() for part in asked):
        found = {name for name, entry in FORMATS.items() if word in (name, entry.container, "all")}
        if not found:
            raise UsageError(
                "unknown_format",
                f"no format {word!r}: choose from all, onnx, tflite, {', '.join(FORMATS)}",
            )
        wanted |= found
    return tuple(name for name in FORMATS if name in wanted)
