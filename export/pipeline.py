"""From a run folder to sealed model files, each proven against the trained network."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allsub_edge.atomic import write_bytes
from allsub_edge.classes import CITATION, CLASSES
from allsub_edge.engines import open_engine
from allsub_edge.errors import DataError, ModelFileError
from allsub_edge.export.graph import field_model
from allsub_edge.export.onnx_float import save_onnx, to_onnx
from allsub_edge.export.onnx_int8 import integer_share, quantise
from allsub_edge.export.parity import Answer, Parity, collect, compare, demand_equal
from allsub_edge.export.slim import fold_scales
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.model_file.container import embed_manifest, parse
from allsub_edge.model_file.golden import make_golden
from allsub_edge.model_file.manifest import FIELD_INPUT, RESIZE, SCHEMA, Manifest
from allsub_edge.training.loop import load_best, shifted_fields
from allsub_edge.training.metrics import summarise
from allsub_edge.training.network import build_network
from allsub_edge.training.perturb import hide_scale_bar
from allsub_edge.training.run import Run

INTENDED_USE = (
    "Research on the automatic reading of peripheral blood smear fields for B-ALL subtypes, on "
    "images like those of the public data set. Not a medical device; not for diagnosis."
)
GOLDEN_TOLERANCE = 0.02
"""Allowed difference between engines and chips in a probability; rendered fields sit near the
decision boundaries, where integer rounding shows most."""

GAIN_SPREADS = (0.10, 0.20)
"""Every file is also tested with each channel's gain changed at random by up to this much."""

MIN_INTEGER_SHARE = 0.9
MAX_DROP = 0.002
"""An int8 file may lose at most this much accuracy on the test role against float32."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """One written model file and what was measured on it."""

    path: Path
    precision: str
    size: int
    parity: Parity
    metrics: dict[str, Any]

    def row(self) -> str:
        """One line for people."""
        accuracy = self.metrics["accuracy"]
        return (
            f"{self.path.name}: {self.size / 1e6:.2f} MB, accuracy "
            f"{100 * accuracy['value']:.2f} % of {accuracy['total']}, same class as the trained "
            f"network on {100 * self.parity.same_top:.2f} %, probabilities differ by at most "
            f"{self.parity.largest_probability_difference:.2g}, newly missed ALL "
            f"{self.parity.new_missed}"
        )


@dataclass(frozen=True)
class Gate:
    """What an int8 file may cost; see ``export_run``."""

    max_drop: float
    no_new_misses: bool


@dataclass(frozen=True)
class Material:
    """Fields an export works with: calibration from training fields, proof on test fields."""

    calibration: npt.NDArray[np.uint8]
    test: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


def load_material(run: Run, data: Path, calibration_fields: int = 128) -> Material:
    """Read the fields of a run's split again from the data folder.

    Raises:
        DataError: the data is not what the run was trained on.
    """
    from allsub_edge.training.dataset import fingerprint, load_fields, read_dataset
    from allsub_edge.training.split import read_split

    samples = read_dataset(data)
    if fingerprint(samples) != run.read_json("config.json")["data_fingerprint"]:
        raise DataError("data_changed", f"{data}: not the fields that {run.folder} was trained on")
    by_file = {sample.file: sample for sample in samples}
    roles: dict[str, list[Any]] = {"train": [], "test": []}
    for row in read_split(run.split_path).rows:
        if row.role in roles:
            roles[row.role].append(by_file[row.file])
    train = roles["train"]
    # Evenly over the training fields, so that every class and slide is in it.
    chosen = [train[i] for i in np.linspace(0, len(train) - 1, calibration_fields).astype(int)]
    return Material(
        calibration=load_fields(data, chosen),
        test=load_fields(data, roles["test"]),
        labels=np.array([CLASSES.index(s.label) for s in roles["test"]], dtype=np.int64),
    )


def export_run(
    folder: Path,
    data: Path,
    out: Path,
    *,
    name: str = "allsub",
    version: str = "1",
    method: str = "minmax",
    reduce_range: bool = True,
    max_drop: float = MAX_DROP,
    no_new_misses: bool = True,
    say: Say = print,
) -> list[Exported]:
    """Write ``NAME-VERSION-float32.onnx`` and ``NAME-VERSION-int8.onnx``.

    Args:
        folder: a finished run.
        data: the data set the run was trained on; for calibration and proof.
        out: where the files go.
        name: of the model.
        version: of the model.
        method: int8 calibration: minmax, entropy or percentile.
        reduce_range: 7-bit weights, see ``onnx_int8.quantise``.
        max_drop: accuracy that int8 may lose against the trained network, as a fraction.
        no_new_misses: refuse int8 if it calls one ALL field Benign that the network does not.
        say: takes one line for each stage.

    Returns:
        What was written, float32 first.

    Raises:
        DataError: the run is not finished or the data does not fit.
        ModelFileError: a file is not provably the same model; then it is not written.
    """
    run = Run(folder)
    calibration = run.read_json("calibration.json")
    # The run's own weights replace the starting weights, which need not be here any more.
    network = build_network(dataclasses.replace(run.config(), weights="none"))
    load_best(network, run)
    say(f"reading {data}")
    material = load_material(run, data)
    model = field_model(network, calibration["temperature"], run.read_arrays("domain.npz"))

    def keras_run(fields: npt.NDArray[np.uint8]) -> Answer:
        answer = model.predict_on_batch(fields)
        return answer["probabilities"], answer["domain_distance"], answer["mask"]

    say(f"the trained network answers {len(material.test)} test fields")
    reference = collect(keras_run, material.test)
    written = []
    with tempfile.TemporaryDirectory() as temporary:
        plain, small = Path(temporary) / "float32.onnx", Path(temporary) / "int8.onnx"
        say("converting to ONNX float32")
        proto = to_onnx(model)
        fold_scales(proto)
        save_onnx(proto, plain)
        say(f"quantising with {len(material.calibration)} training fields ({method})")
        quantise(plain, small, material.calibration, method=method, reduce_range=reduce_range)
        share = integer_share(small)
        if share < MIN_INTEGER_SHARE:
            raise ModelFileError(
                "not_int8", f"only {100 * share:.0f} % of the convolutions run in integers"
            )
        for path, precision in ((plain, "float32"), (small, "int8")):
            say(f"proving {precision} on {len(material.test)} test fields")
            manifest = _manifest(run, name, version, precision)
            if precision == "int8":
                manifest["quantisation"] = {
                    "method": method,
                    "calibration_fields": len(material.calibration),
                    "reduce_range": reduce_range,
                    "integer_convolutions": share,
                }
            written.append(
                _prove_and_write(
                    path.read_bytes(),
                    manifest,
                    out / f"{name}-{version}-{precision}.onnx",
                    material,
                    reference,
                    Gate(max_drop, no_new_misses),
                )
            )
            say(written[-1].row())
    return written


def _prove_and_write(
    model: bytes,
    manifest: dict[str, Any],
    target: Path,
    material: Material,
    reference: Answer,
    gate: Gate,
) -> Exported:
    """Seal, run on the engine, compare with the trained network, add golden cases, write."""

    def engine_run(data: bytes) -> Callable[[npt.NDArray[np.uint8]], Answer]:
        engine = open_engine(parse(data, source=target.name), threads=1)

        def run(fields: npt.NDArray[np.uint8]) -> Answer:
            output = engine.run(fields)
            return output.probabilities, output.domain_distance, output.mask

        return run

    run = engine_run(embed_manifest(model, Manifest.from_dict(manifest)))
    answer = collect(run, material.test)
    parity = compare(reference, answer, material.labels)
    before = summarise(material.labels, reference[0].astype(np.float32))
    after = summarise(material.labels, answer[0])
    if manifest["precision"] == "float32":
        demand_equal(parity, target.name)
    else:
        _demand_quality(before, after, parity, gate, target.name)
    changed = {
        f"test_gains_{round(100 * spread)}": summarise(
            material.labels,
            collect(run, shifted_fields(material.test, spread, seed=round(100 * spread)))[0],
        )
        for spread in GAIN_SPREADS
    }
    bare = np.stack([hide_scale_bar(field) for field in material.test])
    manifest["metrics"] = {
        "test": after,
        **changed,
        "test_scale_bar_hidden": summarise(material.labels, collect(run, bare)[0]),
        "float_accuracy": before["accuracy"],
        "parity_with_trained_network": parity.to_dict(),
        **manifest["metrics"],
    }
    manifest["golden"] = make_golden(run, GOLDEN_TOLERANCE).to_dict()
    data = embed_manifest(model, Manifest.from_dict(manifest))
    parse(data, source=target.name)
    write_bytes(target, data)
    return Exported(target, manifest["precision"], len(data), parity, after)


def _demand_quality(
    before: dict[str, Any], after: dict[str, Any], parity: Parity, gate: Gate, what: str
) -> None:
    drop = before["accuracy"]["value"] - after["accuracy"]["value"]
    missed = gate.no_new_misses and parity.new_missed
    if drop > gate.max_drop or missed or not parity.masks_equal:
        raise ModelFileError(
            "int8_too_far",
            f"{what}: int8 loses {100 * drop:.2f} points and newly misses {parity.new_missed} ALL "
            "fields against float32; it was not written. Try another --calibration-method",
        )


def _manifest(run: Run, name: str, version: str, precision: str) -> dict[str, Any]:
    stored = run.read_json("config.json")
    fitted = run.read_json("calibration.json")
    evaluation = run.read_json("evaluation.json")
    config = run.config()
    recipe = get_recipe(config.recipe)
    now = datetime.datetime.now(datetime.UTC)
    return {
        "schema": SCHEMA,
        "name": name,
        "version": version,
        "created": now.isoformat(timespec="seconds"),
        "precision": precision,
        "interface": "field",
        "classes": list(CLASSES),
        "input": FIELD_INPUT,
        "resize": RESIZE,
        "recipe": {"name": recipe.name, "version": recipe.version, "params": dict(recipe.params)},
        "white_balance": "background/1" if config.white_balance else None,
        "fusion": config.fusion,
        "backbone": f"{config.backbone}/{config.cut}",
        "calibration": {
            "temperature": fitted["temperature"],
            "alpha": fitted["alpha"],
            "conformal": fitted["conformal"],
            "domain_threshold": fitted["domain_threshold"],
            "quality": fitted["quality"],
        },
        "training": {
            "data_fingerprint": stored["data_fingerprint"],
            "split_sha256": hashlib.sha256(run.split_path.read_bytes()).hexdigest(),
            "protocol": stored["protocol"],
            "seed": config.seed,
            "config": _without_paths(config.to_dict()),
            "versions": stored["versions"],
        },
        "metrics": {
            "shortcut_background_colour": evaluation["shortcut_background_colour"],
        },
        "licence": "Apache-2.0 (starting weights: EfficientNet-Lite0, Apache-2.0)",
        "citation": CITATION,
        "intended_use": INTENDED_USE,
        "golden": {"renderer": "none/0", "tolerance": GOLDEN_TOLERANCE, "cases": []},
    }


def _without_paths(config: dict[str, Any]) -> dict[str, Any]:
    """A model file must not tell where its maker keeps files."""
    return {**config, "weights": Path(config["weights"]).name}
