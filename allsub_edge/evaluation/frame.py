"""The frame of a page: style, document and tables, shared by evaluations and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Template
from typing import Any, Final

from allsub_edge.report.html import escaped
from allsub_edge.report.template import STYLE

Report = Mapping[str, Any]

MORE_STYLE: Final[str] = """\
body { max-width: 1000px; }
.lead { font-size: 15px; } .verdict .name { font-size: 21px; }
.mind { margin: 8px 0; padding: 8px 12px; border-left: 8px solid #a11d2c; background: #fbeff0; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 26px; align-items: start; }
.pair img, .wide img { width: 100%; height: auto; display: block; }
table.matrix { width: auto; margin-top: 6px; } table.matrix td, table.matrix th { padding: 8px 10px;
  text-align: center; min-width: 68px; } table.matrix th[scope=row] { text-align: right; }
table.matrix small { display: block; }
table.lines td { border-top: 1px solid #e7e9ee; padding: 3px 10px 3px 0; }
table.lines th { vertical-align: bottom; }
td.right, th.right { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.bar { min-width: 150px; } tr.own td { font-weight: 700; }
table.lines td:first-child { min-width: 225px; } table.lines th { line-height: 1.2;
  white-space: normal; }
.shots { grid-template-columns: repeat(6, minmax(0, 1fr)); }
figure.wrong img { border: 3px solid #a11d2c; }
figure { font-size: 11.5px; }
@media (max-width: 700px) { .pair { grid-template-columns: 1fr; }
  .shots { grid-template-columns: repeat(3, minmax(0, 1fr)); } .scroll { overflow-x: auto; } }
@media print { .pair { gap: 6mm; } h2 { break-after: avoid; }
  table.lines td { padding: 1pt 6pt 1pt 0; } .scroll { overflow: visible; } }
"""

FRAME: Final[Template] = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="$tool">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<header><h1>$title</h1><p>$made</p></header>
<main>
$body
</main>
<footer class="small">
<p>$citation</p>
</footer>
</body>
</html>
""")


def framed(title: str, report: Report, body: Sequence[str]) -> str:
    """A whole document around the parts of a page; ``title`` is escaped here."""
    return FRAME.substitute(
        tool=escaped(report["tool"]),
        title=escaped(title),
        style=STYLE + MORE_STYLE,
        made=escaped(report["made"]),
        body="\n".join(part for part in body if part),
        citation=escaped(report["citation"]),
    )


def grid(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, kind: str = "lines"
) -> str:
    """A table whose cells are escaped already; the first ``left`` columns are not aligned right."""

    def cell(tag: str, place: int, text: str) -> str:
        aligned = ' class="right"' if place >= left else ""
        scope = ' scope="col"' if tag == "th" else ""
        return f"<{tag}{scope}{aligned}>{text}</{tag}>"

    top = "".join(cell("th", i, text) for i, text in enumerate(head))
    body = "".join(
        "<tr>" + "".join(cell("td", i, text) for i, text in enumerate(row)) + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead>'
        f"<tbody>\n{body}</tbody></table></div>"
    )
