"""The page of a case: its frame and its style, light everywhere, made for A4 and for a screen."""

from __future__ import annotations

from string import Template
from typing import Final

STYLE: Final[str] = """\
@page { size: A4; margin: 9mm 12mm; }
* { box-sizing: border-box; }
html { color-scheme: light; background: #fff; }
body { max-width: 900px; margin: 0 auto; padding: 18px 22px; color: #16181d; background: #fff;
  font: 14px/1.42 system-ui, "Segoe UI", "DejaVu Sans", Arial, sans-serif; }
h1 { font-size: 21px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 14px; margin: 16px 0 5px; padding-bottom: 2px; border-bottom: 1px solid #c9cdd6; }
p { margin: 3px 0; }
header { display: flex; justify-content: space-between; gap: 18px; align-items: baseline; }
header p { color: #4a5160; white-space: nowrap; }
.verdict { margin: 10px 0 4px; padding: 10px 14px; border: 2px solid; border-left-width: 12px; }
.ok { border-color: #1d6b45; } .uncertain { border-color: #a35a00; }
.unfit { border-color: #a11d2c; }
.verdict .name { font-size: 25px; font-weight: 700; line-height: 1.2; margin: 0; }
.verdict ul { margin: 4px 0 2px; padding-left: 20px; }
.tool { font-weight: 600; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 2px 8px 2px 0; vertical-align: top; }
th { font-weight: 600; color: #4a5160; font-size: 12.5px; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.bar { width: 26%; vertical-align: middle; }
td.class { white-space: nowrap; }
tr.top td { font-weight: 700; }
svg { display: block; width: 100%; height: 11px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 1px 14px; margin: 0; }
dt { color: #4a5160; } dd { margin: 0; overflow-wrap: anywhere; }
.grid { display: grid; grid-template-columns: repeat(8, minmax(0, 1fr)); gap: 7px; }
figure { margin: 0; break-inside: avoid; font-size: 10.5px; line-height: 1.25; }
figure img, figure .none { display: block; width: 100%; aspect-ratio: 1; border: 2px solid #c9cdd6;
  image-rendering: auto; }
figure .none { display: grid; place-items: center; color: #4a5160; }
figure.contrary img, figure.contrary .none { border: 3px solid #a35a00; }
figure.unfit img, figure.unfit .none { border: 3px dashed #a11d2c; }
figcaption { overflow-wrap: anywhere; } figcaption b { display: block; }
.refused td { font-size: 12px; overflow-wrap: anywhere; border-top: 1px solid #e7e9ee; }
.refused td:first-child { width: 38%; }
.small { font-size: 12px; color: #4a5160; }
footer { margin-top: 12px; padding-top: 6px; border-top: 1px solid #c9cdd6; }
@media (max-width: 640px) { .grid { grid-template-columns: repeat(4, minmax(0, 1fr)); }
  header { display: block; } }
@media print {
  body { max-width: none; padding: 0; font-size: 8.4pt; line-height: 1.25; }
  p { margin: 1pt 0; } th, td { padding-top: 1pt; padding-bottom: 1pt; }
  h1 { font-size: 12pt; line-height: 1.15; }
  h2 { font-size: 9.5pt; margin: 6pt 0 2pt; break-after: avoid; }
  .verdict .name { font-size: 15pt; } .verdict { margin: 4pt 0 2pt; padding: 4pt 10pt; }
  figure { font-size: 6.2pt; line-height: 1.15; } .grid { gap: 1.6mm; }
  .small, th, .refused td { font-size: 7.4pt; } footer { margin-top: 4pt; padding-top: 3pt; }
  tr, footer, .verdict { break-inside: avoid; }
  .screen { display: none; } figcaption { max-height: 3.5em; overflow: hidden; }
  .refused td { padding-top: 0; }
  .refused div { line-height: 1.15; max-height: 2.35em; overflow: hidden; }
}
@media screen { .paper { display: none; } }
"""

PAGE: Final[Template] = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="allsub-edge $tool">
<title>Case $case: $headline</title>
<style>
$style</style>
</head>
<body>
<header><h1>Case $case</h1><p><time datetime="$made_iso">$made</time></p></header>
<main>
<section class="verdict $status" aria-label="Verdict">
<p class="name">$headline</p>
<p>$sentence</p>
$reasons
<p class="tool">$disclaimer</p>
</section>
<h2>Classes</h2>
$classes
<p class="small">$independence</p>
<h2>Fields</h2>
$counts
$gallery
$refused
<h2>How it was read</h2>
<dl>
$provenance
</dl>
</main>
<footer class="small">
<p>$citation</p>
</footer>
</body>
</html>
""")
