"""An evaluation as one self-contained HTML page: no script, nothing fetched, printable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from allsub_edge.classes import CLASSES, CLINICAL_NAMES
from allsub_edge.evaluation import words
from allsub_edge.evaluation.conditions import CONTROL
from allsub_edge.evaluation.frame import Report, framed, grid
from allsub_edge.evaluation.markdown import CONDITION_HEAD, condition_row
from allsub_edge.evaluation.measures import HEADLINES
from allsub_edge.evaluation.plots import Figures
from allsub_edge.evaluation.worst import worst
from allsub_edge.quality import REASONS
from allsub_edge.report.html import escaped
from allsub_edge.report.svg import bar


def page(report: Report, pictures: Sequence[tuple[Any, Any]]) -> str:
    """The page of an evaluation.

    Args:
        report: ``Evaluation.report``.
        pictures: field uint8 [H, W, 3] and white cells uint8 [H, W] for each entry of
            ``report["worst"]``; empty leaves the pictures out, so that the page can be passed on
            where the images cannot.
    """
    figures = Figures()
    return framed(
        f"Evaluation of {words.title(report)}",
        report,
        [
            _verdict(report),
            "<h2>What the accuracy is worth</h2>",
            _against(report),
            "<h2>Measures</h2>",
            _measures(report),
            _shapes(report, figures),
            "<h2>Classes, one versus rest</h2>",
            _classes(report),
            "<h2>What the device stands behind</h2>",
            _trust(report),
            "<h2>Ablation: what each channel carries</h2>",
            _conditions(report["ablation"]),
            f'<p class="small">{escaped(words.ablation_note(report))} Flipped: another class than '
            "for the unchanged field.</p>",
            "<h2>Robustness</h2>",
            _robustness(report, figures),
            worst(report, pictures),
            "<h2>How it was made</h2>",
            _provenance(report),
        ],
    )


def _verdict(report: Report) -> str:
    minds = "".join(f'<p class="mind"><b>Mind:</b> {escaped(w)}.</p>' for w in report["warnings"])
    state = "unfit" if report["warnings"] else "ok"
    return (
        f'<section class="verdict {state}" aria-label="Result">'
        f'<p class="name">{escaped(words.headline(report))}</p>'
        f'<p class="lead">ALL called Benign: {words.missed(report)}. '
        f"{escaped(words.setting(report))}</p>"
        f"<p>{escaped(words.sentences(report['notes']))}</p>"
        f'<p class="tool">{escaped(report["notice"])}</p></section>{minds}'
    )


def _against(report: Report) -> str:
    own = report["measures"]["accuracy"]
    lines = [("own", words.title(report), own["value"], own["wilson95"], "#2b5fab")]
    for entry in report["baselines"].values():
        if entry.get("value") is not None:
            told = f"{entry['name']} ({entry['how']})"
            lines.append(("", told, entry["value"], entry["interval95"], "#8a93a6"))
    rows = "".join(
        f'<tr class="{kind}"><td>{escaped(name)}</td>'
        f'<td class="right">{words.percent(value)} ({words.ends(interval)})</td>'
        f'<td class="bar">{bar(value, escaped(name), colour, *interval)}</td></tr>\n'
        for kind, name, value, interval, colour in lines
    )
    skipped = "".join(
        f'<p class="small">{escaped(e["name"])}: {escaped(e["how"])}.</p>'
        for e in report["baselines"].values()
        if e.get("value") is None
    )
    return (
        '<table class="lines"><thead><tr><th scope="col">seen</th>'
        '<th scope="col" class="right">accuracy (Wilson 95 %)</th>'
        f'<th scope="col">0 to 100 %</th></tr></thead><tbody>\n{rows}</tbody></table>'
        '<p class="small">An accuracy near a baseline that sees no cell proves nothing about '
        f"cells.</p>{skipped}"
    )


def _measures(report: Report) -> str:
    rows = []
    for key in HEADLINES:
        row = report["measures"][key]
        rows.append(
            [
                escaped(row["name"]),
                words.value(key, row),
                f"{row['count']} of {row['total']}" if "count" in row else "",
                words.ends(row["wilson95"]) if "wilson95" in row else "",
                words.ends(row["bootstrap95"], share=words.is_share(key)),
            ]
        )
    head = ["measure", "value", "count", "Wilson 95 %", "group bootstrap 95 %"]
    return grid(head, rows) + f'<p class="small">{escaped(words.INTERVALS)}</p>'


def _shapes(report: Report, figures: Figures) -> str:
    diagram = figures.reliability(report["calibration"]["reliability"])
    error = report["calibration"]["error_after"]
    return (
        f'<div class="pair"><section><h2>Confusion</h2>{_matrix(report["confusion"])}'
        '<p class="small">Rows are true classes, columns what the network said; shares are of the '
        "row.</p></section><section><h2>Reliability</h2>"
        f'<img alt="Reliability diagram; expected calibration error {error:.4f}" src="{diagram}">'
        f'<p class="small">On the dashed line a probability means what it says. Expected '
        f"calibration error {error:.4f}; bars are 95 % Wilson intervals.</p></section></div>"
    )


def _matrix(matrix: Sequence[Sequence[int]]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in CLASSES)
    rows = []
    for i, (name, row) in enumerate(zip(CLASSES, matrix, strict=True)):
        total, cells = sum(row), []
        for j, count in enumerate(row):
            share = count / total if total else 0.0
            base = "29, 107, 69" if i == j else "161, 29, 44"
            # A single mistake must still be seen among hundreds that are right.
            depth = 0.0 if not count else 0.12 + 0.5 * share if i == j else 0.25 + 0.6 * share
            told = f"{count}<small>{words.percent(share, 1)}</small>" if count else "0"
            cells.append(f'<td style="background: rgba({base}, {depth:.2f})">{told}</td>')
        title = f'title="{escaped(CLINICAL_NAMES[name])}"'
        rows.append(f'<tr><th scope="row" {title}>{name}</th>{"".join(cells)}</tr>')
    return (
        f'<table class="matrix"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _classes(report: Report) -> str:
    measures, rows = report["measures"], []
    for name in CLASSES:
        cells = [f"{name}: {escaped(CLINICAL_NAMES[name])}"]
        for key in (f"sensitivity_{name}", f"specificity_{name}"):
            row = measures[key]
            cells.append(
                f"{words.value(key, row)}<br><small>{words.ends(row['wilson95'])}; groups "
                f"{words.ends(row['bootstrap95'])}</small>"
            )
        area = measures[f"auroc_{name}"]
        cells.append(
            f"{words.value(f'auroc_{name}', area)}<br>"
            f"<small>{words.ends(area['bootstrap95'], share=False)}</small>"
        )
        rows.append(cells)
    return grid(["class", "sensitivity", "specificity", "AUROC"], rows)


def _trust(report: Report) -> str:
    calibration, decisions = report["calibration"], report["decisions"]
    rows = []
    for name in CLASSES:
        entry = calibration["coverage"][name]
        limit = (calibration["conformal"] or {}).get(name)
        rows.append(
            [
                name,
                words.counted(entry),
                words.rate(entry),
                words.ends(entry.get("bootstrap95")),
                "-" if limit is None else f"{limit:.6f}",
            ]
        )
    promised = words.percent(1 - calibration["alpha"], 0)
    sizes = ", ".join(
        f"{count} of {size} {'class' if size == '1' else 'classes'}"
        for size, count in calibration["set_sizes"].items()
        if count
    )
    why = "; ".join(f"{REASONS.get(code, code)}: {n}" for code, n in decisions["reasons"].items())
    again = calibration.get("fitted_again")
    refit = (
        f" Fitted again on the {again['fields']} fields of the calibration role, and on no other: "
        f"temperature {again['temperature']:g}."
        if again
        else ""
    )
    return (
        f"<p>Labels given: {words.counted(decisions['labels_given'])} "
        f"({words.percent(decisions['labels_given']['value'])}); right: "
        f"{words.counted(decisions['labels_right'])}. Uncertain: "
        f"{decisions['statuses']['uncertain']}, unfit: {decisions['statuses']['unfit']}"
        f"{f' ({escaped(why)})' if why else ''}.</p>"
        f"<p>Prediction sets: {sizes}; mean {calibration['mean_set_size']:.3f}. Each class was "
        f"promised to be in the set of {promised} of its fields:</p>"
        + grid(
            [
                *("class", "true class in the set", "coverage (Wilson 95 %)"),
                *("group bootstrap 95 %", "threshold"),
            ],
            rows,
        )
        + f'<p class="small">Temperature {calibration["temperature"]:g}, '
        f"{escaped(words.fitted(calibration))}: expected calibration error "
        f"{calibration['error_before']:.4f} before, {calibration['error_after']:.4f} after; log "
        f"loss {calibration['log_loss_before']:.4f} before, {calibration['log_loss_after']:.4f} "
        f"after.{refit} The promise holds for fields exchangeable with the calibration ones, and "
        "those come from few slides.</p>"
    )


def _conditions(entries: Sequence[Report]) -> str:
    return grid(
        [escaped(text) for text in CONDITION_HEAD],
        [[escaped(name), *map(_two_lines, told)] for name, *told in map(condition_row, entries)],
    )


def _two_lines(cell: str) -> str:
    """What stands in brackets after a count goes below it, to keep columns narrow."""
    count, found, rest = cell.partition(" of ")
    total, bracket, told = rest.partition(" (")
    if not (found and bracket):
        return escaped(cell)
    return f"{escaped(count)} of {escaped(total)}<br><small>{escaped(told.rstrip(')'))}</small>"


def _robustness(report: Report, figures: Figures) -> str:
    name = words.title(report)
    accuracy = figures.robustness({name: report})
    labels = figures.robustness({name: report}, "labels_given")
    quick = " Quick grid: a part of the conditions." if report["quick"] else ""
    return (
        f'<div class="wide"><img alt="Accuracy under growing changes" src="{accuracy}"></div>'
        f'<p class="small">Accuracy with its 95 % Wilson interval.{quick} Channel gains change '
        "each channel by its own random factor. A transplanted background keeps the white cells "
        "and takes everything behind them from a field of another group; the transplant from the "
        f"same class has the same seams and is the control.{_control(report)}</p>"
        f"{_conditions(report['robustness'])}"
        '<h2>Robustness: fields that still got a label</h2><div class="wide">'
        f'<img alt="Labels given under growing changes" src="{labels}"></div>'
        '<p class="small">A field that is unfit or uncertain gets no label; refusing is the right '
        "answer to a change that the network cannot bear.</p>"
    )


def _control(report: Report) -> str:
    """What must be known of the control where it lacks fields."""
    entry = next((e for e in report["robustness"] if e["key"] == CONTROL), None)
    lacking = entry and entry.get("without_donor")
    if not entry or not lacking:
        return ""
    told = ", ".join(f"{count} {name}" for name, count in lacking.items())
    again = (
        " What another class's background does beyond it is told by the rows on the control's "
        "fields alone."
        if entry["fields"]
        else ""
    )
    return f" It lacks {told}, for which there is no donor of their class in another group.{again}"


def _provenance(report: Report) -> str:
    subject, data = report["subject"], report["data"]
    boot = report["bootstrap"]
    entries = {
        "Tool": report["tool"],
        "Subject": ", ".join(
            str(subject[key])
            for key in ("kind", "name", "model", "precision", "backbone", "fusion", "recipe")
            if key in subject
        ),
        "SHA-256": subject["sha256"],
        "Engine": f"{subject['engine']} on {report['machine']}",
        "Data": f"{data['fields_in_folder']} fields, fingerprint {data['fingerprint']}",
        "Trained on": f"fingerprint {report['trained_on']['data_fingerprint']}, split "
        f"{report['trained_on']['split_sha256']}",
        "Bootstrap": f"{boot['resamples']} resamples of {boot['unit']}, seed {boot['seed']}",
    }
    rows = "\n".join(f"<dt>{name}</dt><dd>{escaped(text)}</dd>" for name, text in entries.items())
    return f"<dl>\n{rows}\n</dl>"
