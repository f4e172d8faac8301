"""``allsub-edge case``: fields of one patient in, one verdict and a page for people out."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from allsub_edge.classes import CLASSES, CLINICAL_NAMES, NOT_A_MEDICAL_DEVICE
from allsub_edge.cli.output import Outputs, check_place, same_place
from allsub_edge.cli.threads import add_threads
from allsub_edge.errors import AllsubError, UsageError

if TYPE_CHECKING:
    from allsub_edge.case import Case, CaseVerdict
    from allsub_edge.classifier import Classifier
    from allsub_edge.prediction import Prediction

FORMATS: Final[tuple[str, ...]] = ("text", "json", "csv")

HELP: Final[str] = """\
Combine the fields of one patient's smear into one verdict.

Only fit fields count, and the same image counts once. A label needs at least 4 fit fields that
agree (Benign: 8, with stricter agreement); otherwise the verdict is uncertain and says why. The
interval of the agreement counts fields as if they were independent, which those of one smear are
not. A bad file does not stop the others: the report names it.
Exit code: 0 every input was read and the case has fit fields; 1 some input could not be read, or
no field was fit; 2 a usage or set-up error.
"""

EPILOG: Final[str] = """\
examples:
  allsub-edge case smears/S-17 --id S-17
  allsub-edge case smears/S-17 --id S-17 --report S-17.html
  allsub-edge case 'S-17/*.jpg' --id S-17 --format json -o S-17.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``case``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file, a folder or a glob")
    parser.add_argument("--id", required=True, metavar="CASE", help="the case's name: a pseudonym")
    parser.add_argument("--model", metavar="FILE", help="model file (default: the shipped one)")
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    parser.add_argument(
        "-o", "--out", metavar="OUT", help="write here, whole or not at all (default: stdout)"
    )
    parser.add_argument(
        "--report", metavar="OUT.html", help="also write one page with pictures, to read or print"
    )
    add_threads(parser)
    parser.add_argument("--quiet", action="store_true", help="nothing on stderr but errors")


def run(args: argparse.Namespace) -> int:
    """Read every field, print the verdict; returns 0, or 1 as the help says.

    Raises:
        UsageError, ModelFileError: before the first field is read.
        OSError: an output cannot be written.
    """
    from allsub_edge.case import Case
    from allsub_edge.classifier import Classifier

    case = Case(args.id)
    _check_outputs(args.out, args.report)
    outputs = Outputs(args.out, args.report)
    outputs.refuse(args.model)
    with Classifier.load(args.model, threads=args.threads) as classifier:
        for prediction, thumbnail in _fields(case, classifier, outputs, args):
            case.add(prediction, thumbnail)
            if prediction.error is not None and not args.quiet:
                from allsub_edge.cli.formats import text_line

                print(text_line(prediction), file=sys.stderr)
    verdict = case.verdict()
    text = _FORMATTERS[args.format](verdict)
    if args.report is not None:
        case.write_report(args.report)
    if args.out is None:
        print(text, end="")
    else:
        from allsub_edge.atomic import write_text

        write_text(args.out, text)
    if not args.quiet:
        print(NOT_A_MEDICAL_DEVICE, file=sys.stderr)
    return 1 if verdict.fields.error or verdict.status == "unfit" else 0


def _check_outputs(out: str | None, report: str | None) -> None:
    for option, name in (("-o", out), ("--report", report)):
        if name is not None:
            check_place(name, option)
    if report is None:
        return
    if Path(report).suffix.lower() not in (".html", ".htm"):
        raise UsageError("bad_output_path", f"--report {report}: end its name in .html")
    if out is not None and same_place(out, report):
        raise UsageError("bad_output_path", f"-o and --report both name {out}: use two names")


def _fields(
    case: Case, classifier: Classifier, outputs: Outputs, args: argparse.Namespace
) -> Iterator[tuple[Prediction, bytes | None]]:
    """Predictions of all inputs that are not repeats, with thumbnails where the report wants them.

    One field is in memory at a time.
    """
    from hashlib import blake2b

    from allsub_edge.imaging.decode import read_bytes
    from allsub_edge.report.thumbnails import thumbnail
    from allsub_edge.sources.paths import expand

    def fingerprint(data: bytes) -> bytes:
        return blake2b(data, digest_size=16).digest()

    # Hash of a file -> of its field, so that a copy of a file need not be read by the model.
    fields: dict[bytes, bytes] = {}
    for item in expand(args.paths):
        outputs.refuse(item.source)
        found: bytes | AllsubError
        try:
            if item.path is None:
                assert item.error is not None
                raise item.error
            found = read_bytes(item.path)
        except AllsubError as error:
            found = error
        file = fingerprint(found) if isinstance(found, bytes) else b""
        if file in fields and case.is_repeat(fields[file]):
            continue
        ((prediction, view),) = classifier.view_many([(item.source, found)])
        if file:
            # The same pixels in another file are the same field; what has none is known by itself.
            fields[file] = fingerprint(view.rgb.tobytes()) if view else file
            if case.is_repeat(fields[file]):
                continue
        picture = None
        if args.report and view is not None and case.gallery.wants(prediction):
            picture = thumbnail(view.rgb, view.mask)
        yield prediction, picture


def as_text(verdict: CaseVerdict) -> str:
    """A few lines for people."""
    from allsub_edge.case import CASE_REASONS, INDEPENDENCE
    from allsub_edge.quality import REASONS

    fields, rate, model = verdict.fields, verdict.agreement, verdict.model
    said = f"{verdict.label} ({CLINICAL_NAMES[verdict.label]})" if verdict.label else "no label"
    lines = [f"case {verdict.case}: {verdict.status}, {said}"]
    lines += [f"  because {CASE_REASONS[code]}" for code in verdict.reasons]
    repeated = f", {fields.repeated} repeated" if fields.repeated else ""
    lines.append(
        f"  fields: {fields.seen} seen, {fields.fit} fit ({fields.ok} ok, {fields.uncertain} "
        f"uncertain), {fields.unfit} unfit, {fields.error} error{repeated}"
    )
    lines += [f"  unfit: {n} x {REASONS[code]}" for code, n in verdict.unfit_reasons.items()]
    if rate is not None:
        low, high = (100 * end for end in rate.interval())
        means = "  ".join(f"{n} {100 * verdict.mean_probabilities[n]:.1f} %" for n in CLASSES)
        lines += [
            f"  agreement: {rate.count} of {rate.total} say {verdict.top}, "
            f"{100 * rate.value:.1f} % (95 % interval {low:.1f} to {high:.1f})",
            f"  mean probability: {means}",
            f"  not excluded: {' or '.join(verdict.not_excluded) or 'none of the four'}",
            f"  {INDEPENDENCE}",
        ]
    if model is not None:
        lines.append(f"  model: {model.name} {model.version}, {model.engine}")
    return "\n".join(lines) + "\n"


def _as_json(verdict: CaseVerdict) -> str:
    from allsub_edge.cli.formats import dump

    return dump(verdict.to_dict()) + "\n"


def _as_csv(verdict: CaseVerdict) -> str:
    from allsub_edge.case import CASE_COLUMNS

    stream = io.StringIO()
    rows = csv.DictWriter(stream, CASE_COLUMNS, lineterminator="\n")
    rows.writeheader()
    rows.writerow(verdict.to_row())
    return stream.getvalue()


_FORMATTERS: Final = {"text": as_text, "json": _as_json, "csv": _as_csv}
