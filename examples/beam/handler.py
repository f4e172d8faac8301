"""Apache Beam's ONNX model handler on a self-contained model file."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.onnx_inference import OnnxModelHandlerNumpy

from allsub_edge.engines.base import INPUT_NAME, OUTPUT_NAMES
from allsub_edge.model_file.container import ModelBytes, parse


def read_model(uri: str) -> ModelBytes:
    """Read and verify a model file from any file system that Beam knows.

    Raises:
        ModelFileError: as ``allsub_edge.model_file.container.read``.
    """
    with FileSystems.open(uri) as stream:
        return parse(stream.read(), source=uri)


def run_fields(
    session: ort.InferenceSession,
    batch: Sequence[npt.NDArray[np.uint8]],
    inference_args: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Run a batch of squashed fields, uint8 (224, 224, 3) each.

    Returns:
        For each field the model's outputs by name, and ``infer_ms``: its share of the batch's
        time in milliseconds.
    """
    started = perf_counter()
    outputs = session.run(list(OUTPUT_NAMES), {INPUT_NAME: np.stack(batch)})
    share = round(1000 * (perf_counter() - started) / len(batch), 3)
    return [
        dict(zip(OUTPUT_NAMES, values, strict=True)) | {"infer_ms": share}
        for values in zip(*outputs, strict=True)
    ]


class FieldModelHandler(OnnxModelHandlerNumpy):
    """Beam's handler, with three changes that a self-contained file asks for.

    The file is verified by its digest before an engine sees it; the session is made of those very
    bytes, with a fixed number of threads (one worker process per core is Beam's own parallelism);
    and all outputs are kept, not the first one alone.

    Args:
        uri: the ``.onnx`` file, on any file system that Beam knows.
        threads: of ONNX Runtime, per worker.
        batch: largest batch.
    """

    def __init__(self, uri: str, *, threads: int = 1, batch: int = 16) -> None:
        super().__init__(
            uri,
            providers=["CPUExecutionProvider"],
            inference_fn=run_fields,
            min_batch_size=1,
            max_batch_size=batch,
        )
        self._uri = uri
        self._threads = threads

    def load_model(self) -> ort.InferenceSession:
        """Open the model; called by Beam on every worker.

        Session options cannot be pickled, so they are made here and not handed over.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return ort.InferenceSession(
            read_model(self._uri).data, options, providers=["CPUExecutionProvider"]
        )

    def get_num_bytes(self, batch: Sequence[npt.NDArray[np.uint8]]) -> int:
        """Bytes of a batch; Beam's own handler counts one item of each array only."""
        return sum(field.nbytes for field in batch)

    def get_metrics_namespace(self) -> str:
        """Under which name Beam counts inferences and their time."""
        return "allsub_edge"
