"""One case as one self-contained HTML page: no script, nothing fetched, printable on A4."""

from __future__ import annotations

import html
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Final

from allsub_edge.case.rule import BENIGN_BAR, CASE_REASONS, INDEPENDENCE, LEUKAEMIA_BAR
from allsub_edge.case.verdict import CaseVerdict
from allsub_edge.classes import CITATION, CLASSES, CLINICAL_NAMES, NOT_A_MEDICAL_DEVICE
from allsub_edge.quality import REASONS
from allsub_edge.report.gallery import Gallery, Shown
from allsub_edge.report.svg import bar
from allsub_edge.report.template import PAGE, STYLE
from allsub_edge.statistics import Rate
from allsub_edge.version import __version__

PRINTED: Final[int] = 4
"""Refused fields that are named on paper, so that a case fills one A4 page: with every other part
at its longest these still fit (Chromium, its default fonts). The screen shows all that are kept."""


def escaped(text: str) -> str:
    """The text for an element or a quoted attribute; what cannot be printed is spelled out.

    Control characters, text direction marks and the stand-ins for bytes that are not UTF-8 become
    backslash escapes, so that a file name can neither end an attribute nor reorder a line.
    """
    plain = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return html.escape("".join(plain), quote=True)


def case_page(verdict: CaseVerdict, gallery: Gallery, made: datetime | None = None) -> str:
    """The page of a case.

    Args:
        verdict: the verdict.
        gallery: the fields to show.
        made: when; None means now. Shown with its offset from UTC.

    Returns:
        A whole HTML document; names the user gave are escaped in it.
    """
    moment = datetime.now(UTC).astimezone() if made is None else made
    return PAGE.substitute(
        tool=__version__,
        style=STYLE,
        case=escaped(verdict.case),
        headline=headline(verdict),
        sentence=_sentence(verdict),
        status=verdict.status,
        reasons=_reasons(verdict),
        disclaimer=escaped(NOT_A_MEDICAL_DEVICE),
        classes=_classes(verdict),
        independence=escaped(INDEPENDENCE),
        counts=_counts(verdict),
        gallery=_gallery(verdict, gallery),
        refused=_refused(gallery),
        provenance=_provenance(verdict),
        citation=escaped(CITATION),
        made=moment.strftime("%Y-%m-%d %H:%M:%S %z").strip(),
        made_iso=moment.isoformat(timespec="seconds"),
    )


def headline(verdict: CaseVerdict) -> str:
    """The verdict in a few words, ASCII without markup."""
    if verdict.label:
        return f"{verdict.label}: {CLINICAL_NAMES[verdict.label]}"
    if verdict.top is None:
        return "No verdict: nothing fit to judge"
    return f"No label: most probable {verdict.top}, uncertain"


def _sentence(verdict: CaseVerdict) -> str:
    rate = verdict.agreement
    if rate is None:
        return "No class is excluded."
    low, high = rate.interval()
    remaining = " or ".join(verdict.not_excluded) or "none of the four"
    return (
        f"{rate.count} of {rate.total} fit fields say {verdict.top}: agreement "
        f"{100 * rate.value:.0f} %, 95 % interval {100 * low:.0f} to {100 * high:.0f} %. "
        f"Not excluded: {remaining}."
    )


def _reasons(verdict: CaseVerdict) -> str:
    items = "".join(f"<li>{escaped(CASE_REASONS[code])}</li>" for code in verdict.reasons)
    return f"<p>Why there is no label:</p><ul>{items}</ul>" if items else ""


def _classes(verdict: CaseVerdict) -> str:
    fit = verdict.fields.fit
    rows = []
    for name in CLASSES:
        mean = verdict.mean_probabilities.get(name, 0.0)
        votes = Rate(verdict.votes[name], fit)
        low, high = votes.interval() if fit else (None, 1.0)
        share = votes.value if fit else 0.0
        colour = "#2b5fab" if name == verdict.top else "#8a93a6"
        mean_bar = bar(mean, f"mean probability {100 * mean:.1f} %", colour)
        vote_bar = bar(share, f"{votes.count} of {fit} fields", colour, low, high)
        mark = ' class="top"' if name == verdict.top else ""
        rows.append(
            f"<tr{mark}>"
            f'<td class="class">{name}: {escaped(CLINICAL_NAMES[name])}</td>'
            f'<td class="number">{100 * mean:.1f} %</td><td class="bar">{mean_bar}</td>'
            f'<td class="number">{votes.count} of {fit}</td><td class="bar">{vote_bar}</td>'
            f"<td>{'no' if name in verdict.not_excluded else 'yes'}</td></tr>"
        )
    return (
        '<table><thead><tr><th scope="col">Class</th>'
        '<th scope="col" colspan="2">Mean probability of fit fields</th>'
        '<th scope="col" colspan="2">Fit fields that say so (95 % interval)</th>'
        f'<th scope="col">Excluded</th></tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def _counts(verdict: CaseVerdict) -> str:
    fields = verdict.fields
    text = (
        f"{fields.seen} seen: {fields.fit} fit ({fields.ok} ok, {fields.uncertain} uncertain), "
        f"{fields.unfit} unfit, {fields.error} not readable"
    )
    if fields.repeated:
        text += f", {fields.repeated} the same image again (counted once)"
    why = "; ".join(f"{REASONS[code]}: {n}" for code, n in verdict.unfit_reasons.items())
    return f"<p>{text}.</p>" + (f"<p>Unfit because {escaped(why)}.</p>" if why else "")


def _figure(shown: Shown, top: str | None) -> str:
    kind, says = "agrees", f"{shown.top} {100 * shown.probability:.0f} %"
    if shown.status == "unfit":
        kind, says = "unfit", "unfit"
    elif shown.top != top:
        kind, says = "contrary", f"but {says}"
    if shown.status == "uncertain":
        says += ", uncertain"
    about = f"{shown.source}: {says}" + (f" ({shown.remark})" if shown.remark else "")
    if shown.image is None:
        picture = f'<div class="none" role="img" aria-label="{escaped(about)}">no picture</div>'
    else:
        mime = "png" if shown.image.startswith(b"\x89PNG") else "jpeg"
        data = b64encode(shown.image).decode("ascii")
        picture = f'<img alt="{escaped(about)}" src="data:image/{mime};base64,{data}">'
    name = PurePath(shown.source).name or shown.source
    short = name if len(name) <= 36 else f"{name[:20]}...{name[-13:]}"
    return (
        f'<figure class="{kind}" title="{escaped(about)}">{picture}'
        f"<figcaption><b>{escaped(says)}</b>{escaped(short)}</figcaption></figure>"
    )


def _gallery(verdict: CaseVerdict, gallery: Gallery) -> str:
    shown = gallery.chosen(verdict.top)
    if not shown:
        return ""
    figures = "\n".join(_figure(field, verdict.top) for field in shown)
    note = (
        f"Shown: {len(shown)} of {verdict.fields.fit + verdict.fields.unfit} readable fields, "
        "contradicting ones first (thick border), then unfit ones (dashed), then the others from "
        "the least sure on. Lines mark the cells the model looked at."
    )
    return f'<p class="small">{note}</p>\n<div class="grid">\n{figures}\n</div>'


def _on_screen(place: int) -> str:
    return "" if place < PRINTED else ' class="screen"'


def _refused(gallery: Gallery) -> str:
    if not gallery.refused:
        return ""
    rows = "".join(
        f"<tr{_on_screen(place)}><td><div>{escaped(field.source)}</div></td>"
        f"<td><div>{field.status}: {escaped(field.why)}</div></td></tr>\n"
        for place, field in enumerate(gallery.refused)
    )
    more = gallery.refused_count - len(gallery.refused)
    rest = f'<p class="small screen">and {more} more that are not listed</p>' if more else ""
    unprinted = gallery.refused_count - PRINTED
    if unprinted > 0:
        rest += (
            f'<p class="small paper">and {unprinted} more; the file of this report names '
            f"{'them' if not more else f'{len(gallery.refused) - PRINTED} of them'}</p>"
        )
    return (
        "<h2>Fields that do not count</h2>\n"
        '<table class="refused"><thead><tr><th scope="col">Field</th><th scope="col">Why</th></tr>'
        f"</thead><tbody>\n{rows}</tbody></table>{rest}"
    )


def _provenance(verdict: CaseVerdict) -> str:
    model = verdict.model
    entries = {"Tool": f"allsub-edge {__version__}"}
    if model is not None:
        entries |= {
            "Model": f"{model.name} {model.version}",
            "SHA-256": model.sha256,
            "Engine": f"{model.engine}, threads: {model.threads}",
        }
    mild, strict = LEUKAEMIA_BAR, BENIGN_BAR
    entries["Rule"] = (
        f"{verdict.schema}; a label needs {mild.fields} fit fields (Benign {strict.fields}), "
        f"agreement surely above {100 * mild.agreement:.0f} % ({100 * strict.agreement:.0f} %), "
        f"other classes in at most {100 * mild.share:.0f} % ({100 * strict.share:.0f} %) of the "
        "prediction sets, and at least as many fit as unfit fields"
    )
    return "\n".join(f"<dt>{name}</dt><dd>{escaped(text)}</dd>" for name, text in entries.items())
