"""Put measured tables into a page: what stands between two marks is replaced, nothing else.

    python -m allsub_edge.benchmarks.page FOLDER docs/performance.md

For every ``FOLDER/NAME.md`` the lines between ``<!-- NAME -->`` and ``<!-- /NAME -->`` become its
text. A table without marks, or a mark without its table, is an error, so that no old number stays
behind unnoticed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from allsub_edge.errors import AllsubError, DataError


def fill(page: str, tables: dict[str, str]) -> str:
    """The page with every table in its place.

    Args:
        page: Markdown with marks.
        tables: name of a mark -> Markdown.

    Raises:
        DataError: ``marks_differ``.
    """
    marks = re.findall(r"^<!-- ([a-z0-9-]+) -->$", page, re.MULTILINE)
    if sorted(marks) != sorted(tables):
        apart = sorted(set(marks) ^ set(tables)) or sorted(marks)
        raise DataError(
            "marks_differ",
            f"the page's marks and the measured tables are not the same: {', '.join(apart)}",
        )
    for name, text in tables.items():
        mark, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        before, _, rest = page.partition(mark)
        _, found, after = rest.partition(end)
        if not found:
            raise DataError("marks_differ", f"<!-- {name} --> has no <!-- /{name} --> behind it")
        page = f"{before}{mark}\n{text.strip()}\n\n{end}{after}"
    return page


def main(arguments: list[str]) -> int:
    """Run the program; returns 0, or 2 with one line on stderr."""
    from allsub_edge.atomic import write_text

    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder, page = Path(arguments[0]), Path(arguments[1])
    try:
        tables = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
        write_text(page, fill(page.read_text(encoding="utf-8"), tables))
    except (AllsubError, OSError) as error:
        print(f"page: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
