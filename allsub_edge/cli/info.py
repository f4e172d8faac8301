"""``allsub-edge info``: what a model file says about itself; no engine is needed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from allsub_edge.classes import NOT_A_MEDICAL_DEVICE

if TYPE_CHECKING:
    from allsub_edge.model_file.container import ModelBytes

HELP: Final[str] = """\
Say what a model file is: version, data it learned from, metrics, thresholds, licence, intended use.

The file's digest is verified first; nothing is run.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``info``."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="default: the shipped model")
    parser.add_argument("--json", action="store_true", help="the manifest and file facts as JSON")


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested objects as dotted names and short texts."""
    if not isinstance(value, dict):
        return [(prefix, f"{value:g}" if isinstance(value, float) else str(value))]
    return [
        row
        for key, inner in value.items()
        for row in _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    ]


def describe(model: ModelBytes) -> str:
    """The manifest as aligned lines for people."""
    m = model.manifest
    rows = [
        ("file", f"{model.source} ({len(model.data):,} bytes, {model.format})"),
        ("sha256", model.sha256),
        ("name", f"{m.name} {m.version}, {m.precision}, made {m.created}"),
        ("classes", ", ".join(m.classes)),
        ("network", f"{m.backbone}, fusion {m.fusion}, interface {m.interface}"),
        ("pixels", f"resize {m.resize}, white balance {m.white_balance or 'none'}"),
        ("recipe", f"{m.recipe['name']} {m.recipe['version']}"),
        *_flat(m.recipe["params"], "recipe.params"),
        *_flat(m.calibration.to_dict(), "calibration"),
        *_flat(m.training, "training"),
        *_flat(m.metrics, "metrics"),
        (
            "golden",
            f"{len(m.golden.cases)} cases, {m.golden.renderer}, tolerance {m.golden.tolerance:g}",
        ),
        *(row for key, value in m.extra.items() for row in _flat(value, key)),
        ("licence", m.licence),
        ("citation", m.citation),
        ("intended use", m.intended_use),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join([*(f"{name:<{width}}  {text}" for name, text in rows), NOT_A_MEDICAL_DEVICE])


def run(args: argparse.Namespace) -> int:
    """Print the manifest; returns 0.

    Raises:
        ModelFileError: the file is absent, damaged, of an unknown schema or not ours.
    """
    from allsub_edge import models
    from allsub_edge.cli.formats import dump
    from allsub_edge.model_file import container

    model = container.read(models.default_path() if args.file is None else args.file)
    if args.json:
        print(
            dump(
                {
                    "file": model.source,
                    "sha256": model.sha256,
                    "bytes": len(model.data),
                    "format": model.format,
                    "manifest": model.manifest.to_dict(),
                }
            )
        )
    else:
        print(describe(model))
    return 0
