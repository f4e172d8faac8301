"""What every benchmark program ends with: measure, store as JSON, print a table, or say why not."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from allsub_edge.errors import AllsubError

Result = dict[str, Any]


def parser_of(name: str, module_doc: str | None) -> argparse.ArgumentParser:
    """A parser called ``name``, described by the module's first line, that has ``--json``."""
    parser = argparse.ArgumentParser(prog=name, description=(module_doc or "").partition("\n")[0])
    parser.add_argument("--json", metavar="OUT.json", help="write the result here, too")
    return parser


def surroundings() -> dict[str, str]:
    """Environment variables for a process that is measured from its start.

    Where ``PYTHONDONTWRITEBYTECODE`` is set, every start of an editable installation compiles the
    package anew (a tenth of one `infer`); pip and a first start leave it compiled on a device.
    """
    return {name: at for name, at in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def finish(
    name: str,
    measure: Callable[[], Result],
    markdown: Callable[[Result], str],
    out: str | None,
    then: Callable[[Result], None] | None = None,
) -> int:
    """Run a measurement and tell it.

    Args:
        name: of the program, for its error line.
        measure: gives a JSON-ready result.
        markdown: the result as a table for standard output.
        out: JSON file to write whole or not at all; None writes none.
        then: called with the result after that.

    Returns:
        0, or 2 with one line on stderr.
    """
    from allsub_edge.atomic import write_text

    try:
        result = measure()
        if out is not None:
            write_text(out, json.dumps(result, indent=1) + "\n")
        if then is not None:
            then(result)
    except AllsubError as error:
        print(f"{name}: error: {error.message}", file=sys.stderr)
        return 2
    print(markdown(result))
    return 0
