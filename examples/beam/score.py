"""Score an archive of smear fields with Apache Beam.

    python score.py --fields ARCHIVE/ --output RESULTS/ [--model FILE] [--format jsonl|parquet]
    python score.py --manifest fields.csv --output RESULTS/

A folder is searched with its subfolders; a manifest is a CSV with the columns ``path`` and, if you
like, ``case``, its paths relative to the manifest. Options that this program does not know go to
Beam (``--runner=FlinkRunner`` and so on). Run it again after an interruption: fields that are in
the output already, with the same content and the same model, are skipped.

Research tool, not a medical device: no diagnosis or treatment may rest on it.
"""

from __future__ import annotations

import argparse
import csv
import io
import logging
import os
import posixpath
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from handler import FieldModelHandler, read_model
from shards import DONE, FORMATS, UNREAD, WriteShards, find, identities
from steps import Answer, Prepare, Source, field_in

from allsub_edge import models
from allsub_edge.errors import AllsubError, DataError
from allsub_edge.prediction import STATUSES

LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""Beam's in-process runner. ``DirectRunner`` may choose Prism instead, which it downloads."""


def arguments(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our options, and those for Beam."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--fields", metavar="FOLDER", help="a folder of fields, with subfolders")
    given.add_argument("--manifest", metavar="CSV", help="a CSV with the column path (and case)")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the shards go")
    parser.add_argument("--model", metavar="FILE", help="model file (default: the shipped one)")
    parser.add_argument("--format", choices=FORMATS, default="jsonl", help="default: jsonl")
    parser.add_argument("--shard-size", type=int, default=500, metavar="N", help="default: 500")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="default: 16")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="per worker; default 1")
    ours, beams = parser.parse_known_args(argv)
    if min(ours.shard_size, ours.batch_size, ours.threads) < 1:
        parser.error("--shard-size, --batch-size and --threads must be at least 1")
    return ours, beams


def read_manifest(uri: str) -> list[Source]:
    """The rows of a manifest.

    Raises:
        DataError: ``bad_manifest_file``, when there is no column ``path`` or no row, or when a path
            has two cases.
    """
    with FileSystems.open(uri) as stream:
        rows = list(csv.DictReader(io.StringIO(stream.read().decode("utf-8-sig"))))
    if not rows or "path" not in rows[0]:
        raise DataError(
            "bad_manifest_file", f"{uri}: needs a header with the column path, and rows below it"
        )
    cases: dict[str, str] = {}
    for row in rows:
        if cases.setdefault(row["path"], row.get("case") or "") != (row.get("case") or ""):
            raise DataError(
                "bad_manifest_file", f"{uri}: gives {row['path']} two cases: keep one of the rows"
            )
    folder = posixpath.dirname(uri)
    return [
        Source(row["path"], posixpath.join(folder, row["path"]), row.get("case") or None)
        for row in rows
        if row["path"]
    ]


def sources(pipeline: beam.Pipeline, args: argparse.Namespace) -> Any:
    """A collection of every field that is asked for."""
    if args.manifest:
        return pipeline | "Manifest" >> beam.Create(read_manifest(args.manifest))
    root = args.fields.rstrip("/") + "/"
    return (
        pipeline
        | "List" >> beam.io.fileio.MatchFiles(root + "**")
        | "Fields" >> beam.FlatMap(field_in, root)
    )


def build(pipeline: beam.Pipeline, args: argparse.Namespace, run: str) -> None:
    """Lay out the pipeline; see the README for a picture of it."""
    model = read_model(args.model)
    done = (
        pipeline
        | "Shards" >> beam.Create(find(args.output, DONE, args.format))
        | "Done" >> beam.FlatMap(done_in, args.format, model.sha256)
    )
    wanted = sources(pipeline, args) | "ByName" >> beam.Map(lambda source: (source.name, source))
    prepared = (
        {"wanted": wanted, "done": done}
        | "Join" >> beam.CoGroupByKey()
        | "Prepare"
        >> beam.ParDo(Prepare(model, args.threads)).with_outputs(Prepare.FAILED, main="good")
    )
    handler = FieldModelHandler(args.model, threads=args.threads, batch=args.batch_size)
    answered = (
        prepared.good
        | "Infer" >> RunInference(KeyedModelHandler(handler))
        | "Answer" >> beam.ParDo(Answer(model, args.threads))
    )
    for name, records in (("Answers", answered), ("Failures", prepared[Prepare.FAILED])):
        records | f"Write{name}" >> beam.ParDo(
            WriteShards(args.output, args.format, args.shard_size, run)
        )


def done_in(path: str, form: str, model_sha256: str) -> list[tuple[str, str]]:
    """(source, content SHA-256) of the records that this model wrote into a shard."""
    with FileSystems.open(path) as stream:
        found = list(identities(stream.read(), form))
    return [(source, content) for source, content, by in found if by == model_sha256 and content]


def counts(result: Any) -> dict[str, int]:
    """How many fields met which end."""
    found = result.metrics().query(beam.metrics.MetricsFilter().with_namespace("archive"))
    return {entry.key.metric.name: entry.result for entry in found["counters"]}


def main(argv: list[str] | None = None) -> int:
    """Run the pipeline; returns 0, or 1 when some fields have no answer or there were none."""
    args, beams = arguments(sys.argv[1:] if argv is None else argv)
    args.model = args.model or str(models.default_path())
    # Worker processes on this machine are started anew and must find the modules beside this one.
    here = str(Path(__file__).resolve().parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]).strip(
        os.pathsep
    )
    options = PipelineOptions(beams)
    if not any(option.startswith("--runner") for option in beams):
        options = PipelineOptions([*beams, f"--runner={LOCAL_RUNNER}"])
    options.view_as(SetupOptions).save_main_session = True
    if not FileSystems.exists(args.output):
        FileSystems.mkdirs(args.output)
    run = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    before = find(args.output, UNREAD, args.format)
    started = perf_counter()
    pipeline = beam.Pipeline(options=options)
    build(pipeline, args, run)
    result = pipeline.run()
    result.wait_until_finish()
    seconds = perf_counter() - started
    if before:  # this run tried those fields again
        FileSystems.delete(before)
    ends = counts(result)
    scored = sum(ends.get(status, 0) for status in STATUSES)
    told = ", ".join(f"{ends.get(name, 0)} {name}" for name in (*STATUSES, "skipped"))
    print(f"{scored} fields in {seconds:.1f} s: {told}", file=sys.stderr)
    return 1 if ends.get("error", 0) or not scored + ends.get("skipped", 0) else 0


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.WARNING)
    try:
        sys.exit(main())
    except (AllsubError, OSError) as problem:
        print(f"score.py: error: {problem}", file=sys.stderr)
        sys.exit(2)
