"""The pictures of an audit's page: fields, pairs, scale-bar corners, background colours."""

from __future__ import annotations

from base64 import b64encode
from pathlib import PurePath
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from allsub_edge.audit import scale_bar
from allsub_edge.audit.dataset_audit import PAIR_KINDS, Audit
from allsub_edge.classes import CLASSES
from allsub_edge.report.html import escaped
from allsub_edge.report.thumbnails import thumbnail
from allsub_edge.training.duplicates import Pair

COLOURS: Final[dict[str, str]] = {
    "Benign": "#1b7f4d",
    "Early": "#c77700",
    "Pre": "#2b5fab",
    "Pro": "#b3256b",
}
"""Colour of each class in plots."""

_FIELDS_EACH: Final[int] = 8
_PAIRS_EACH: Final[int] = 6
_ALARMS: Final[int] = 24
_POINTS_EACH: Final[int] = 300
_CORNER_HEIGHT: Final[int] = 32
_CORNER_WIDTH: Final[int] = 56
_SIDE: Final[int] = 128


def _img(data: bytes, about: str, kind: str = "jpeg", css: str = "") -> str:
    source = f"data:image/{kind};base64,{b64encode(data).decode('ascii')}"
    extra = f' class="{css}"' if css else ""
    return f'<img{extra} alt="{escaped(about)}" src="{source}">'


def _field(found: Audit, place: int) -> str:
    field = found.inventory.fields[place]
    nothing = np.zeros(field.shape[:2], np.uint8)
    return _img(thumbnail(field, nothing, _SIDE), found.inventory.samples[place].file)


def _png(rgb: npt.NDArray[np.uint8]) -> bytes:
    done, data = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))
    if not done:
        raise ValueError(f"OpenCV could not write {rgb.shape} as PNG")
    return bytes(data.tobytes())


def _spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` of ``count`` places, evenly from the first to the last."""
    if count <= wanted:
        return list(range(count))
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]


def class_rows(found: Audit) -> str:
    """Eight fields of each class, evenly over its file order."""
    rows = []
    for place, label in enumerate(CLASSES):
        members = np.flatnonzero(found.inventory.labels == place)
        figures = "".join(
            f"<figure>{_field(found, int(members[i]))}<figcaption>"
            f"{escaped(PurePath(found.inventory.samples[int(members[i])].file).name)}"
            "</figcaption></figure>"
            for i in _spread(len(members), _FIELDS_EACH)
        )
        rows.append(f'<h3>{label}</h3><div class="grid">{figures}</div>')
    return "\n".join(rows)


def _pair(found: Audit, pair: Pair, css: str) -> str:
    one, other = (found.inventory.samples[place] for place in (pair.a, pair.b))
    if one.label != other.label:
        names = f"{escaped(one.file)}<br>{escaped(other.file)}"
    else:
        names = f"{escaped(PurePath(one.file).name)}<br>{escaped(PurePath(other.file).name)}"
    return (
        f'<figure class="{css}"><div>{_field(found, pair.a)}{_field(found, pair.b)}</div>'
        f"<figcaption><b>{pair.kind}, {pair.score:.2f}</b>{names}</figcaption></figure>"
    )


def alarm_pairs(found: Audit) -> str:
    """Pairs under two classes, the surest first; empty without any."""
    shown = sorted(found.across, key=lambda pair: -pair.score)[:_ALARMS]
    figures = "".join(_pair(found, pair, "pair alarm") for pair in shown)
    return f'<div class="pairs">{figures}</div>' if figures else ""


def example_pairs(found: Audit) -> str:
    """Pairs of each kind, from the least sure to the surest."""
    rows = []
    for kind in PAIR_KINDS:
        own = sorted((p for p in found.pairs if p.kind == kind), key=lambda p: (p.score, p.a))
        figures = "".join(_pair(found, own[i], "pair") for i in _spread(len(own), _PAIRS_EACH))
        if figures:
            rows.append(f'<div class="pairs">{figures}</div>')
    return "\n".join(rows)


def bar_pictures(found: Audit) -> str:
    """The mean corner of each class, and one field's corner for each kind of bar."""
    corners = found.inventory.fields[:, -_CORNER_HEIGHT:, -_CORNER_WIDTH:]
    labels, figures = found.inventory.labels, []
    for place, label in enumerate(CLASSES):
        mean = corners[labels == place].mean(axis=0, dtype=np.float64)
        picture = _img(_png(np.rint(mean).astype(np.uint8)), f"mean corner of {label}", "png", "px")
        figures.append(f"<figure>{picture}<figcaption><b>mean of {label}</b></figcaption></figure>")
    for number, name in enumerate(scale_bar.KINDS):
        members = np.flatnonzero(found.bar_kind == number)
        if len(members):
            first = int(members[len(members) // 2])
            file = found.inventory.samples[first].file
            picture = _img(_png(corners[first]), f"{name}: {file}", "png", "px")
            figures.append(
                f"<figure>{picture}<figcaption><b>{name}</b>{escaped(PurePath(file).name)}"
                "</figcaption></figure>"
            )
    return f'<div class="corners">{"".join(figures)}</div>'


def background_plot(found: Audit) -> str:
    """Red/green against blue/green of the background, a dot a field, as inline SVG."""
    ratio = found.backgrounds[:, [0, 2]] / np.maximum(found.backgrounds[:, 1:2], 1)
    low, high = np.percentile(ratio, 0.5, axis=0), np.percentile(ratio, 99.5, axis=0)
    margin = 0.05 * np.maximum(high - low, 1e-3)
    low, high = low - margin, high + margin
    width, height = 680, 380
    left, top, right, bottom = 56, 10, 600, 338
    dots, legend = [], []
    for place, label in enumerate(CLASSES):
        members = np.flatnonzero(found.inventory.labels == place)
        for i in _spread(len(members), _POINTS_EACH):
            across, up = np.clip((ratio[members[i]] - low) / (high - low), 0, 1)
            x, y = left + across * (right - left), bottom - up * (bottom - top)
            dots.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{COLOURS[label]}"/>')
        y = top + 16 + 17 * place
        legend.append(
            f'<circle cx="{right + 14}" cy="{y - 4}" r="5" fill="{COLOURS[label]}"/>'
            f'<text x="{right + 24}" y="{y}">{label}</text>'
        )
    ticks = []
    for i in range(5):
        x, y = left + i * (right - left) / 4, bottom - i * (bottom - top) / 4
        values = low + (high - low) * i / 4
        anchor = "end" if i == 4 else "middle"
        ticks.append(f'<text x="{x:.0f}" y="{bottom + 16}" text-anchor="{anchor}">'
                     f"{values[0]:.3f}</text>")  # fmt: skip
        ticks.append(f'<text x="{left - 5}" y="{y + 4:.0f}" text-anchor="end">'
                     f"{values[1]:.3f}</text>")  # fmt: skip
    about = "colour of the empty background, red to green against blue to green, by class"
    return (
        f'<svg class="plot" role="img" aria-label="{about}" viewBox="0 0 {width} {height}">'
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" '
        'fill="#fff" stroke="#8a93a6"/>'
        f'<g fill-opacity="0.55">{"".join(dots)}</g><g>{"".join(legend + ticks)}</g>'
        f'<text x="{(left + right) / 2}" y="{height - 6}" text-anchor="middle">red / green</text>'
        f'<text x="12" y="{(top + bottom) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 12 {(top + bottom) / 2})">blue / green</text></svg>'
    )
