"""Shards of results: written whole or not at all, and read again to know what is done.

A shard called ``fields-*`` holds records of fields whose bytes were read; its name is made from
the records' identities, so a bundle that Beam repeats replaces its own shard. ``unread-*`` holds
error records of fields that could not be read at all; they are tried again by the next run.
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Final

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from allsub_edge.prediction import ROW_COLUMNS, Prediction

FORMATS: Final[tuple[str, ...]] = ("jsonl", "parquet")
DONE: Final[str] = "fields"
UNREAD: Final[str] = "unread"

_TEXTS: Final[frozenset[str]] = frozenset(
    {"source", "status", "label", "top", "prediction_set", "reasons", "model_name"}
    | {"model_version", "model_sha256", "engine", "error_code", "error_message"}
)
SCHEMA: Final[pa.Schema] = pa.schema(
    [
        (name, pa.string() if name in _TEXTS else pa.int32() if name == "threads" else pa.float64())
        for name in ROW_COLUMNS
    ]
    + [("case", pa.string()), ("content_sha256", pa.string())]
)
"""Columns of a Parquet shard: those of ``Prediction.to_row``, and two of the archive."""

Identity = tuple[str, str | None, str]
"""What makes a record one of its kind: source, content SHA-256, model SHA-256."""


def identity(record: dict[str, Any]) -> Identity:
    """The identity of a record."""
    return record["source"], record["content_sha256"], record["model"]["sha256"]


def encode(records: list[dict[str, Any]], form: str) -> bytes:
    """The bytes of one shard."""
    if form == "jsonl":
        lines = [json.dumps(record, ensure_ascii=True, allow_nan=False) for record in records]
        return ("\n".join(lines) + "\n").encode("ascii")
    rows = [
        Prediction.from_dict(record).to_row()
        | {key: record[key] for key in ("case", "content_sha256")}
        for record in records
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), sink)
    return sink.getvalue()


def identities(data: bytes, form: str) -> Iterator[Identity]:
    """The identities of the records in a shard's bytes."""
    if form == "jsonl":
        for line in data.splitlines():
            yield identity(json.loads(line))
        return
    columns = ["source", "content_sha256", "model_sha256"]
    for row in pq.read_table(io.BytesIO(data), columns=columns).to_pylist():
        yield row["source"], row["content_sha256"], row["model_sha256"]


def find(folder: str, prefix: str, form: str) -> list[str]:
    """Paths of the shards there are, sorted."""
    pattern = FileSystems.join(folder, f"{prefix}-*.{form}")
    return sorted(found.path for found in FileSystems.match([pattern])[0].metadata_list)


def write(folder: str, name: str, data: bytes) -> None:
    """Write a file under a hidden name first, then rename: a reader never sees a part of it."""
    hidden = FileSystems.join(folder, f".{name}.{uuid.uuid4().hex}.part")
    with FileSystems.create(hidden, mime_type="application/octet-stream") as stream:
        stream.write(data)
    FileSystems.rename([hidden], [FileSystems.join(folder, name)])


class WriteShards(beam.DoFn):
    """Writes records in shards of ``size``, while the fields behind them are still being read.

    A sink that writes at the end of the pipeline would lose everything when a run of days is
    stopped; this one loses at most ``size`` records of each worker.

    Args:
        folder: where the shards go; must exist.
        form: one of FORMATS.
        size: most records in a shard.
        run: names the shards of unread fields, so that they belong to one run.
    """

    def __init__(self, folder: str, form: str, size: int, run: str) -> None:
        self._folder, self._form, self._size, self._run = folder, form, size, run

    def start_bundle(self) -> None:
        """Start with nothing kept."""
        self._kept: dict[str, list[dict[str, Any]]] = {DONE: [], UNREAD: []}

    def process(self, record: dict[str, Any]) -> Iterable[None]:
        """Keep one record, and write when enough are kept."""
        prefix = UNREAD if record["content_sha256"] is None else DONE
        kept = self._kept[prefix]
        kept.append(record)
        if len(kept) >= self._size:
            self._write(prefix)
        return ()

    def finish_bundle(self) -> None:
        """Write what is left; Beam counts the bundle as done only after this."""
        for prefix in (DONE, UNREAD):
            self._write(prefix)

    def _write(self, prefix: str) -> None:
        records = sorted(self._kept[prefix], key=lambda record: record["source"])
        self._kept[prefix] = []
        if not records:
            return
        names = json.dumps([identity(record) for record in records])
        digest = hashlib.sha256(names.encode()).hexdigest()[:24]
        middle = f"{self._run}-" if prefix == UNREAD else ""
        write(self._folder, f"{prefix}-{middle}{digest}.{self._form}", encode(records, self._form))
