"""A run: the folder that one training makes, and everything that can be read back from it.

``config.json``      the resolved configuration, versions, fingerprint of the data
``split.csv``        which field played which role
``checkpoint.npz``   the whole state at the end of the last epoch, for resuming
``best.npz``         the averaged weights of the best epoch; what is exported
``history.json``     one entry for each epoch
``calibration.json`` temperature, conformal, domain and quality thresholds
``domain.npz``       what the domain distance needs
``evaluation.json``  metrics on the test role, plain and with changed gains
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from allsub_edge.atomic import replacing, write_text
from allsub_edge.errors import DataError
from allsub_edge.training.config import TrainConfig

SCHEMA = "allsub-edge/run/1"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """A full disk and its like in words; the run can go on from its last checkpoint."""
    try:
        yield
    except OSError as error:
        raise DataError(
            "not_written",
            f"{path}: could not be written ({error.strerror or error}) and is as it was before; "
            f"free some space, then go on with: allsub-edge train --resume {path.parent}",
        ) from error


class Run:
    """Reading and writing of one run folder; every file is written whole or not at all."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def exists(self) -> bool:
        """Whether a training was started here."""
        return (self.folder / "config.json").is_file()

    @property
    def split_path(self) -> Path:
        """Where the split lies."""
        return self.folder / "split.csv"

    def write_json(self, name: str, value: Any) -> None:
        """Write one of the JSON files.

        Raises:
            DataError: ``not_written``; what was there before is unchanged.
        """
        with _explained(self.folder / name):
            write_text(self.folder / name, json.dumps(value, indent=2) + "\n")

    def read_json(self, name: str) -> Any:
        """Read one of the JSON files.

        Raises:
            DataError: it is missing or damaged.
        """
        path = self.folder / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(
                "incomplete_run",
                f"{path}: missing; is this a run folder? Finish it with: "
                f"allsub-edge train --resume {self.folder}",
            ) from None
        except (OSError, ValueError) as error:
            raise DataError("bad_run", f"{path}: unreadable ({error})") from error

    def write_arrays(self, name: str, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Write one of the ``.npz`` files.

        Raises:
            DataError: ``not_written``; what was there before is unchanged.
        """
        with _explained(self.folder / name), replacing(self.folder / name) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]

    def read_arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Read one of the ``.npz`` files.

        Raises:
            DataError: it is missing or damaged.
        """
        path = self.folder / name
        try:
            with np.load(path, allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        except FileNotFoundError:
            raise DataError(
                "incomplete_run",
                f"{path}: missing; finish the run with: allsub-edge train --resume {self.folder}",
            ) from None
        # What numpy and zipfile raise for an empty, a cut and a changed file.
        except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
            raise DataError("bad_run", f"{path}: unreadable ({error})") from error

    def config(self) -> TrainConfig:
        """The configuration the run was started with."""
        stored = self.read_json("config.json")
        if stored.get("schema") != SCHEMA:
            raise DataError("bad_run", f"{self.folder}: a run of another version of allsub-edge")
        return TrainConfig.from_dict(stored["config"])
