"""One bare file judged: run on its engine, compared with the trained network, sealed if good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.engines import open_engine
from allsub_edge.errors import ModelFileError
from allsub_edge.export.material import Material
from allsub_edge.export.parity import Answer, Parity, collect, compare, demand_equal
from allsub_edge.model_file.container import embed_manifest, parse
from allsub_edge.model_file.golden import make_golden
from allsub_edge.model_file.manifest import Manifest
from allsub_edge.training.labelled import shifted_fields
from allsub_edge.training.metrics import summarise
from allsub_edge.training.perturb import hide_scale_bar

GAIN_SPREADS: Final = (0.10, 0.20)
"""Every file is also tested with each channel's gain changed at random by up to this much."""

SLOW_S: Final = 60.0
"""A file that takes longer than this for the test fields is not also tested on changed ones."""


@dataclass(frozen=True)
class Gate:
    """What a file may cost against the trained network.

    Attributes:
        max_drop: accuracy it may lose on the test fields, as a fraction.
        no_new_misses: refuse it if it calls one ALL field Benign that the network does not.
    """

    max_drop: float = 0.002
    no_new_misses: bool = True

    def verdict(
        self, precision: str, before: dict[str, Any], after: dict[str, Any], parity: Parity
    ) -> str:
        """Why a file is not good enough; empty if it is.

        Args:
            precision: a float32 file must be equal, whatever the gate allows.
            before, after: ``summarise`` of the network and of the file on the same fields.
            parity: of the file with the network.
        """
        if precision == "float32":
            try:
                demand_equal(parity, "float32")
            except ModelFileError:
                return (
                    "not the trained network: probabilities differ by "
                    f"{parity.largest_probability_difference:.2g}, the distance by "
                    f"{parity.largest_distance_difference:.2g}, masks "
                    f"{'equal' if parity.masks_equal else 'DIFFERENT'}"
                )
            return ""
        reasons = []
        lost = before["accuracy"]["count"] - after["accuracy"]["count"]
        fields = after["accuracy"]["total"]
        # In fields, not in rates: as floats 0.994 - 0.992 is more than 0.002.
        if not (fields > 0 and lost <= self.max_drop * fields + 1e-6):
            points = 100 * lost / fields if fields else np.nan
            reasons.append(f"loses {points:.2f} points")
        apart = (parity.largest_probability_difference, parity.largest_distance_difference)
        if not np.isfinite(apart).all():
            reasons.append("gives an answer that is no number")
        if self.no_new_misses and parity.new_missed:
            reasons.append(f"newly misses {parity.new_missed} ALL")
        if not parity.masks_equal:
            reasons.append("has another mask")
        return ", ".join(reasons)


@dataclass(frozen=True)
class Proof:
    """What was measured on a file.

    Attributes:
        answer: of the file to the test fields.
        parity: with the trained network.
        metrics: ``summarise`` on the test fields.
        seconds: for the test fields, one at a time.
        engine: name and version of what ran it.
    """

    answer: Answer
    parity: Parity
    metrics: dict[str, Any]
    seconds: float
    engine: str


@contextmanager
def _opened(data: bytes, source: str) -> Iterator[tuple[Callable[..., Answer], str]]:
    engine = open_engine(parse(data, source=source))

    def run(fields: npt.NDArray[np.uint8]) -> Answer:
        output = engine.run(fields)
        return output.probabilities, output.domain_distance, output.mask

    try:
        yield run, f"{engine.name} {engine.version}"
    finally:
        engine.close()


def prove(
    model: bytes, manifest: dict[str, Any], material: Material, reference: Answer, source: str
) -> Proof:
    """Run a bare file on the test fields, one at a time as a device does.

    Raises:
        ModelFileError: ``engine_refused``, ``wrong_signature``.
    """
    sealed = embed_manifest(model, Manifest.from_dict(manifest))
    with _opened(sealed, source) as (run, engine):
        started = perf_counter()
        answer = collect(run, material.test, batch_size=1)
        seconds = perf_counter() - started
    parity = compare(reference, answer, material.labels)
    metrics = summarise(material.labels, np.nan_to_num(answer[0]))
    return Proof(answer, parity, metrics, seconds, engine)


def changed_fields(
    fields: npt.NDArray[np.uint8], seconds: float
) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """The fields with changed channel gains and without scale bar, each set with its name.

    Args:
        fields: uint8 [N, S, S, 3].
        seconds: what the file took for them as they are; nothing comes beyond :data:`SLOW_S`.
    """
    if seconds > SLOW_S:
        return
    for spread in GAIN_SPREADS:
        seed = round(100 * spread)
        yield f"gains_{seed}", shifted_fields(fields, spread, seed=seed)
    yield "scale_bar_hidden", np.stack([hide_scale_bar(field) for field in fields])


def measured_on_test(
    model: bytes, manifest: dict[str, Any], material: Material, proof: Proof, source: str
) -> dict[str, Any]:
    """The manifest's metrics ``test``, ``test_gains_10`` and so on."""
    found: dict[str, Any] = {"test": proof.metrics}
    sealed = embed_manifest(model, Manifest.from_dict(manifest))
    with _opened(sealed, source) as (run, _):
        for name, fields in changed_fields(material.test, proof.seconds):
            answer = collect(run, fields, batch_size=1)
            found[f"test_{name}"] = summarise(material.labels, answer[0])
    return found


def seal(model: bytes, manifest: dict[str, Any], source: str) -> bytes:
    """The sealed file: a bare one with its manifest and golden cases.

    Raises:
        ModelFileError: ``bad_output``, a rendered field has no answer.
    """
    sealed = embed_manifest(model, Manifest.from_dict(manifest))
    with _opened(sealed, source) as (run, _):
        golden = make_golden(run, manifest["golden"]["tolerance"])
    data = embed_manifest(model, Manifest.from_dict({**manifest, "golden": golden.to_dict()}))
    parse(data, source=source)
    return data
