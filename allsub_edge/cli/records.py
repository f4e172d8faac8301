"""``allsub-edge records``: look at what was recorded, take it elsewhere, delete it."""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TextIO

from allsub_edge.cli import output
from allsub_edge.errors import DataError, UsageError

if TYPE_CHECKING:
    from allsub_edge.records import Record, Records

HELP: Final[str] = """\
Look at the records that `allsub-edge watch` keeps, take them elsewhere, or delete them.

The answers are stored as they were given, with the SHA-256 of field and model, so that each can
be traced and repeated. Times are UTC.
"""

EPILOG: Final[str] = """\
examples:
  allsub-edge records list --since 2026-11-01 --status unfit
  allsub-edge records show 17
  allsub-edge records export --case 2026-117 --format csv -o 2026-117.csv
  allsub-edge records purge --before 90d --yes
"""

_AGE: Final = re.compile(r"([0-9]{1,5})([hd])")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``records`` and its four actions."""
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|export|purge")
    action = {
        name: actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        for name, text in (
            ("list", "one line for each record, the oldest first"),
            ("show", "one record as JSON"),
            ("export", "records as ndjson or csv, written whole or not at all"),
            ("purge", "delete records for good"),
        )
    }
    for given in action.values():
        given.add_argument(
            "--data-dir",
            metavar="DIR",
            help="where the records are (default: $XDG_DATA_HOME/allsub-edge, ~/.local/share/...)",
        )
    action["show"].add_argument("id", type=int, metavar="ID", help="number of the record")
    moment = "a date, a moment (2026-11-24T08:30), or an age (90d, 12h); UTC"
    for name in ("list", "export", "purge"):
        action[name].add_argument("--case", metavar="ID", help="only this case")
        action[name].add_argument("--since", metavar="TIME", help=f"only from then on: {moment}")
        action[name].add_argument("--before", metavar="TIME", help=f"only before: {moment}")
    for name in ("list", "export"):
        action[name].add_argument(
            "--status", choices=("ok", "uncertain", "unfit", "error"), help="only this status"
        )
    action["export"].add_argument("--format", choices=("ndjson", "csv"), default="ndjson")
    action["export"].add_argument("-o", "--out", metavar="OUT", help="default: stdout")
    action["purge"].add_argument("--yes", action="store_true", help="do it")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; returns 0.

    Raises:
        UsageError, RecordsError: nothing was done.
    """
    from allsub_edge.records import Records

    with Records.open(args.data_dir, create=False) as records:
        if args.action == "show":
            record = records.get(args.id)
            found = record.to_dict() | {"seen": records.sources(record.id)}
            print(json.dumps(found, indent=2, ensure_ascii=True, allow_nan=False))
        elif args.action == "list":
            _list(records, args)
        elif args.action == "export":
            _export(records, args)
        else:
            _purge(records, args)
    return 0


def moment(text: str, now: datetime) -> datetime:
    """A date, a moment or an age as a moment in UTC; without an offset it is taken as UTC.

    Raises:
        UsageError: ``bad_time``.
    """
    age = _AGE.fullmatch(text)
    try:
        if age:
            hours = int(age[1]) * (24 if age[2] == "d" else 1)
            return now - timedelta(hours=hours)
        parsed = datetime.fromisoformat(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            "bad_time", f"{text!r} is no time: write 2026-11-24, 2026-11-24T08:30, 90d or 12h"
        ) from None


def _filter(args: argparse.Namespace) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "case": args.case,
        "since": None if args.since is None else moment(args.since, now),
        "before": None if args.before is None else moment(args.before, now),
    }


def _list(records: Records, args: argparse.Namespace) -> None:
    from allsub_edge.cli.formats import printable

    form = "{:>6}  {:<19}  {:<14}  {:<9}  {:<6}  {}"
    print(form.format("id", "time (UTC)", "case", "status", "label", "source"))
    for record in records.select(status=args.status, **_filter(args)):
        print(
            form.format(
                record.id,
                record.time[:19].replace("T", " "),
                printable(record.case),
                record.status,
                record.label or "-",
                printable(record.source),
            )
        )


def _export(records: Records, args: argparse.Namespace) -> None:
    from allsub_edge.records import RecordsError

    chosen = records.select(status=args.status, **_filter(args))
    try:
        with output.opened(args.out) as stream:
            if args.format == "csv":
                _write_csv(chosen, stream)
            else:
                for record in chosen:
                    stream.write(record.to_json() + "\n")
    except OSError as error:
        if args.out is None:
            raise
        raise RecordsError(
            "write_failed",
            f"{args.out}: cannot be written ({error.strerror or error}), and is as it was before: "
            "check the folder and its free space",
        ) from error


def _write_csv(chosen: Iterator[Record], stream: TextIO) -> None:
    from allsub_edge.prediction import ROW_COLUMNS, Prediction
    from allsub_edge.records import RecordsError

    columns = ("id", "case", "time", "field_sha256", "settings", *ROW_COLUMNS)
    rows = csv.DictWriter(stream, columns, lineterminator="\n")
    rows.writeheader()
    for record in chosen:
        head = {
            "id": record.id,
            "case": record.case,
            "time": record.time,
            "field_sha256": record.field_sha256,
            "settings": json.dumps(record.settings, sort_keys=True),
        }
        try:
            rows.writerow(head | Prediction.from_dict(record.result).to_row())
        except DataError as error:
            raise RecordsError(
                "unreadable_record",
                f"record {record.id}: {error.message}; --format ndjson writes it as it is stored",
            ) from error


def _purge(records: Records, args: argparse.Namespace) -> None:
    chosen = _filter(args)
    if not any(value is not None for value in chosen.values()):
        raise UsageError("usage", "purge: say which: --case ID, --before TIME or --since TIME")
    if not args.yes:
        count = records.count(**chosen)
        raise UsageError(
            "needs_yes",
            f"{count} {'record' if count == 1 else 'records'} would be deleted for good, nothing "
            "was: add --yes",
        )
    print(f"{records.purge(**chosen)} deleted")
