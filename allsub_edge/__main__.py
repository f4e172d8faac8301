"""``python -m allsub_edge``: the same as the ``allsub-edge`` command."""

from allsub_edge.cli.main import entry

if __name__ == "__main__":
    entry()
