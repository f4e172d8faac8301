"""``python -m allsub_edge.export`` is ``allsub-edge export``."""

from __future__ import annotations

import sys

from allsub_edge.cli.main import entry

if __name__ == "__main__":
    sys.argv[1:1] = ["export"]
    entry()
