"""TFLite metadata: what other tools read about tensors, labels and normalisation.

The metadata is a flatbuffer of its own (``metadata_schema.fbs`` of tensorflow/tflite-support 0.4.4,
file identifier ``M001``) in a buffer of the model that the model's metadata entry
``TFLITE_METADATA`` names. Only the tables that a field model needs are written here, by their slot
numbers in that schema. The files it speaks of are put behind the model by
``model_file.container.embed_manifest``.
"""

from __future__ import annotations

from typing import Any, Final

from allsub_edge.classes import NOT_A_MEDICAL_DEVICE
from allsub_edge.export.tflite_graph import add_buffer, pack, unpack
from allsub_edge.model_file.tflite_bytes import LABELS_FILE, MANIFEST_FILE

ENTRY: Final = b"TFLITE_METADATA"
IDENTIFIER: Final = b"M001"
PARSER_VERSION: Final = "1.0.0"

_AXIS_LABELS: Final = 2  # AssociatedFileType.TENSOR_AXIS_LABELS
_FEATURE, _IMAGE = 1, 2  # ContentProperties
_RGB: Final = 1  # ColorSpaceType
_NORMALISATION: Final = 1  # ProcessUnitOptions


class _Number(int):
    """An integer of a given width in bytes."""

    size: int

    def __new__(cls, value: int, size: int) -> _Number:
        made = super().__new__(cls, value)
        made.size = size
        return made


_Table = dict[int, Any]
"""Slot -> text, number, table, list of floats or list of tables."""


def _write(builder: Any, value: Any) -> int:
    """Write a text, a list or a table, inner values first; returns its offset."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, list):
        tables = not all(isinstance(item, float) for item in value)
        items = [_write(builder, item) for item in value] if tables else value
        builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            if tables:
                builder.PrependUOffsetTRelative(item)
            else:
                builder.PrependFloat32(item)
        return int(builder.EndVector())
    offsets = {
        slot: item if isinstance(item, _Number) else _write(builder, item)
        for slot, item in value.items()
    }
    builder.StartObject(max(offsets, default=-1) + 1)
    for slot, item in offsets.items():
        if not isinstance(item, _Number):
            builder.PrependUOffsetTRelativeSlot(slot, item, 0)
        elif item.size == 1:
            builder.PrependUint8Slot(slot, item, 0)
        else:
            builder.PrependUint32Slot(slot, item, 0)
    return int(builder.EndObject())


def _tensor(name: str, description: str, content: _Table, low: float, high: float) -> _Table:
    return {0: name, 1: description, 3: content, 5: {0: [high], 1: [low]}}


def _file(name: str, description: str, kind: int = 0) -> _Table:
    made: _Table = {0: name, 1: description}
    return {**made, 2: _Number(kind, 1)} if kind else made


def _tensors(size: int) -> dict[str, _Table]:
    """TensorMetadata of every tensor of both interfaces."""
    image = {
        0: _Number(_IMAGE, 1),
        1: {0: _Number(_RGB, 1), 1: {0: _Number(size, 4), 1: _Number(size, 4)}},
    }
    feature: _Table = {0: _Number(_FEATURE, 1), 1: {}}
    field = _tensor(
        "field",
        "The whole smear field, RGB, squashed to the size of the input. White balance, "
        "segmentation and normalisation are inside the model.",
        image,
        0.0,
        255.0,
    )
    # Mean 0 and deviation 1: the pixels go in as they are.
    field[4] = [{0: _Number(_NORMALISATION, 1), 1: {0: [0.0], 1: [1.0]}}]
    channels = {
        name: {
            **_tensor(name, text, image, 0.0, 1.0),
            # (pixel - mean) / deviation, as for every image of the convention.
            4: [{0: _Number(_NORMALISATION, 1), 1: {0: [0.0], 1: [255.0]}}],
        }
        for name, text in (
            ("original", "The whole smear field, RGB, each pixel divided by 255."),
            ("segmented", "Its second channel by the recipe, black outside the cells, over 255."),
        )
    }
    labels = _file(LABELS_FILE, "Class names in the order of the probabilities.", _AXIS_LABELS)
    probabilities = _tensor("probabilities", "Calibrated probabilities.", feature, 0.0, 1.0)
    return {
        **channels,
        "field": field,
        "probabilities": {**probabilities, 6: [labels]},
        "domain_distance": {
            0: "domain_distance",
            1: "Distance of the field to the nearest training class; 0 or more.",
            3: feature,
        },
        "mask": _tensor("mask", "1 on white cells, 0 elsewhere.", feature, 0.0, 1.0),
    }


def metadata(inputs: list[str], outputs: list[str], size: int) -> bytes:
    """The metadata flatbuffer of a field model.

    Args:
        inputs: names of the input tensors in the order of the graph.
        outputs: names of the output tensors in the order of the graph.
        size: side of the field in pixels.
    """
    import flatbuffers

    known = _tensors(size)
    graph = {2: [known[name] for name in inputs], 3: [known[name] for name in outputs]}
    root = {
        0: "allsub-edge",
        1: "Names the B-ALL subtype in a field of a peripheral blood smear. "
        f"{NOT_A_MEDICAL_DEVICE} {MANIFEST_FILE} tells the rest.",
        3: [graph],
        4: "The allsub-edge authors",
        6: [_file(MANIFEST_FILE, "What the model is, where it comes from and how it was tested.")],
        7: PARSER_VERSION,
    }
    builder = flatbuffers.Builder(4096)
    builder.Finish(_write(builder, root), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def with_metadata(data: bytes) -> bytes:
    """Copy of a TFLite field model that carries its metadata; older metadata is replaced."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = unpack(data)
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    names = {
        int(entry.tensorIndex): bytes(entry.name).decode()
        for entry in [*signature.inputs, *signature.outputs]
    }
    size = int(graph.tensors[graph.inputs[0]].shape[1])
    content = metadata(
        [names[int(index)] for index in graph.inputs],
        [names[int(index)] for index in graph.outputs],
        size,
    )
    entry = schema.MetadataT()
    entry.name, entry.buffer = ENTRY, add_buffer(model, content)
    model.metadata = [m for m in model.metadata or [] if bytes(m.name) != ENTRY] + [entry]
    packed: bytes = pack(model)
    return packed
