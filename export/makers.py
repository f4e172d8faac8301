"""Bare files of one Keras model, one maker for each container; nothing is judged here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from allsub_edge.engines.base import Feed
from allsub_edge.export import bias_correction, onnx_int8, tflite_int8
from allsub_edge.export.formats import Format
from allsub_edge.export.fuse import fuse
from allsub_edge.export.layer_error import LayerError, onnx_errors, tflite_errors
from allsub_edge.export.onnx_float import IR_VERSION, OLDEST_RUNTIME, OPSET, save_onnx, to_onnx
from allsub_edge.export.onnx_half import half_weights
from allsub_edge.export.tflite_float import half_weights as half_tflite
from allsub_edge.export.tflite_float import save_graph, to_tflite
from allsub_edge.export.tflite_graph import operator_versions
from allsub_edge.export.tflite_metadata import with_metadata

ERROR_FIELDS = 4
"""Calibration fields whose activations are compared layer by layer."""

Say = Callable[[str], None]


class CannotBe(Exception):
    """This network cannot be written in this format; the message says why, in one line."""


@dataclass(frozen=True)
class Made:
    """One bare file.

    Attributes:
        data: the file, without manifest.
        share: share of its convolutions that run in integers (dynamic formats: whose weights are
            integers), 0..1; None for float formats.
        conversion: what the manifest tells about how it was made.
    """

    data: bytes
    share: float | None
    conversion: dict[str, Any] = field(default_factory=dict)


class Maker(Protocol):
    """Makes the files of one container."""

    def make(self, entry: Format, keep_float: Sequence[str] = ()) -> Made:
        """One file, with these layers left in float; raises CannotBe, ModelFileError."""

    def layers(self) -> list[str]:
        """Names of the convolutions that can be kept in float, in the order of the graph."""

    def errors(self, made: Made) -> list[LayerError]:
        """Errors of a static integer file's layers, those that add most first."""


class OnnxMaker:
    """ONNX files of a Keras model of ``export.graph``.

    Args:
        model: the model.
        feeds: calibration feeds.
        settings: of static int8; ``per_channel`` is the format's affair.
        folder: where working files go.
        say: takes one line for each stage.
        params: see ``fuse.fuse``.
        fused: run its passes over what was converted.
    """

    def __init__(
        self,
        model: Any,
        feeds: Sequence[Feed],
        settings: onnx_int8.Quantisation,
        folder: Path,
        say: Say,
        params: Mapping[str, int | float] | None = None,
        fused: bool = True,
    ) -> None:
        self._model, self._feeds, self._settings = model, feeds, settings
        self._folder, self._say, self._params = folder, say, params
        self._passes = fused
        self._quantised: Path | None = None
        self._extractors = tflite_int8.extractor_names(model)

    @cached_property
    def _plain(self) -> tuple[Any, Path]:
        self._say("converting to ONNX")
        proto = to_onnx(self._model)
        path = self._folder / "plain.onnx"
        save_onnx(proto, path)
        return proto, path

    @cached_property
    def _means(self) -> bias_correction.Means:
        return bias_correction.onnx_means(self._plain[1], bias_correction.few(self._feeds))

    def make(self, entry: Format, keep_float: Sequence[str] = ()) -> Made:
        """See :class:`Maker`."""
        import onnx

        proto, plain = self._plain
        conversion: dict[str, Any] = {
            "opset": OPSET,
            "ir_version": IR_VERSION,
            "oldest_runtime": f"onnxruntime {OLDEST_RUNTIME}",
        }
        if entry.precision == "float32":
            return Made(self._fused(proto, conversion), None, conversion)
        if entry.precision == "float16":
            half, _ = half_weights(proto)
            return Made(self._fused(half, conversion), None, conversion)
        target = self._folder / f"{entry.precision}.onnx"
        if entry.precision == "dynamic-int8":
            self._say("quantising weights")
            onnx_int8.quantise_dynamic(plain, target, self._extractors, keep_float=keep_float)
        else:
            settings = onnx_int8.Quantisation(
                self._settings.method,
                self._settings.activation_type,
                entry.precision == "int8",
                self._settings.paired,
            )
            self._say(f"quantising with {len(self._feeds)} fields ({settings.method})")
            onnx_int8.quantise(
                plain, target, self._feeds, self._extractors, settings, keep_float=keep_float
            )
            quantised = onnx.load(str(target))
            bias_correction.correct_onnx(quantised, plain, self._means)
            onnx.save(quantised, str(target))
            conversion |= settings.to_dict()
        self._quantised = target
        share = onnx_int8.integer_share(target)
        return Made(self._fused(onnx.load(str(target)), conversion), share, conversion)

    def layers(self) -> list[str]:
        """See :class:`Maker`."""
        names: list[str] = onnx_int8.layers(self._plain[0], self._extractors)
        return names

    def errors(self, made: Made) -> list[LayerError]:
        """See :class:`Maker`."""
        # The unfused file has the tensors of the float model under the same names.
        quantised = self._quantised
        if quantised is None:
            return []
        feeds = self._feeds[:: max(1, len(self._feeds) // ERROR_FIELDS)][:ERROR_FIELDS]
        found: list[LayerError] = onnx_errors(self._plain[1], quantised, feeds, self.layers())
        return found

    def _fused(self, proto: Any, conversion: dict[str, Any]) -> bytes:
        """The file with the operators that run fastest; see ``fuse``. It runs the full checker."""
        import onnx

        made = onnx.ModelProto()
        made.CopyFrom(proto)
        conversion["fused"] = fuse(made, self._params) if self._passes else []
        data: bytes = made.SerializeToString()
        return data


class TfliteMaker:
    """TFLite files of a Keras model of ``export.graph``; arguments as :class:`OnnxMaker`."""

    def __init__(self, model: Any, feeds: Sequence[Feed], folder: Path, say: Say) -> None:
        self._model, self._feeds, self._say = model, feeds, say
        self._folder = folder / "saved"
        self._extractors = tflite_int8.extractor_names(model)

    @cached_property
    def _saved(self) -> Path:
        save_graph(self._model, self._folder)
        return self._folder

    @cached_property
    def _plain(self) -> bytes:
        folder = self._saved
        self._say("converting to TFLite")
        plain: bytes = to_tflite(folder)
        return plain

    @cached_property
    def _calibrated(self) -> bytes:
        folder = self._saved
        self._say(f"calibrating TFLite with {len(self._feeds)} fields (minmax)")
        calibrated: bytes = tflite_int8.calibrate(folder, self._feeds)
        return calibrated

    @cached_property
    def _means(self) -> bias_correction.Means:
        return bias_correction.tflite_means(self._calibrated, bias_correction.few(self._feeds))

    def make(self, entry: Format, keep_float: Sequence[str] = ()) -> Made:
        """See :class:`Maker`."""
        share: float | None = None
        conversion: dict[str, Any] = {}
        if entry.precision == "float32":
            data = self._plain
        elif entry.precision == "float16":
            data, _ = half_tflite(self._plain)
        elif entry.precision == "dynamic-int8":
            plain = self._plain
            self._say("quantising weights")
            data = tflite_int8.dynamic_range(self._saved, plain, self._extractors)
            share = tflite_int8.integer_weights(data)
        else:
            calibrated = self._calibrated
            self._say("quantising")
            per_channel = entry.precision != "int8-per-tensor"
            data = tflite_int8.quantise_extractor(
                calibrated,
                self._extractors,
                keep_float,
                means=self._means,
                wide=entry.precision == "int16x8",
                per_channel=per_channel,
            )
            share = tflite_int8.integer_share(data)
            conversion = {"method": "minmax", "per_channel": per_channel}
        conversion["operators"] = operator_versions(data)
        return Made(with_metadata(data), share, conversion)

    def layers(self) -> list[str]:
        """See :class:`Maker`."""
        names: list[str] = tflite_int8.layers(self._calibrated, self._extractors)
        return names

    def errors(self, made: Made) -> list[LayerError]:
        """See :class:`Maker`."""
        feeds = self._feeds[:: max(1, len(self._feeds) // ERROR_FIELDS)][:ERROR_FIELDS]
        found: list[LayerError] = tflite_errors(self._calibrated, made.data, feeds)
        return found


def makers_of(
    model: Any,
    feeds: Sequence[Feed],
    settings: onnx_int8.Quantisation,
    folder: Path,
    say: Say,
    params: Mapping[str, int | float] | None,
    fused: bool = True,
) -> dict[str, Maker]:
    """Container -> its maker; arguments as :class:`OnnxMaker`."""
    return {
        "onnx": OnnxMaker(model, feeds, settings, folder, say, params, fused),
        "tflite": TfliteMaker(model, feeds, folder, say),
    }
