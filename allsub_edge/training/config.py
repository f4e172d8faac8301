"""Everything that decides what a training does, in one flat, stored dataclass.

It comes from defaults, a TOML file and the command line, the later ones winning.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from allsub_edge.errors import UsageError
from allsub_edge.training.augment_config import AugmentConfig

FUSIONS: Final = ("mask_pool", "branches")
PRECISIONS: Final = ("float32", "mixed_bfloat16", "mixed_float16")

PATHS: Final[tuple[str, ...]] = ("weights", "teacher")
"""Keys that hold paths; the same file may be named from another folder."""


def _option(default: Any, text: str) -> Any:
    """A field with the one-line description that ``--help`` and the stored run show."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of one training; stored resolved in the run folder."""

    backbone: str = _option("efficientnet_lite0", "feature extractor")
    cut: str = _option("stride16", "depth at which the extractor ends")
    fusion: str = _option(
        "mask_pool",
        "branches: two extractors, concatenated (the paper); "
        "mask_pool: one extractor, pooled over the field and over the cells",
    )
    shared: bool = _option(False, "branches only: both channels use the same extractor weights")
    recipe: str = _option("cells", "segmentation recipe of the second channel")
    white_balance: bool = _option(True, "divide the original field by its background colour first")
    size: int = _option(224, "side of the network input in pixels")
    dense: int = _option(64, "width of the dense block after the concatenated features")
    dropout: float = _option(0.3, "dropout before and after the dense block")
    weights: str = _option(
        "none", "starting weights of the extractor: imagenet, a file, or none (random)"
    )
    recalibrate: int = _option(
        0,
        "before training, measure the extractor's batch-norm statistics anew on so many training "
        "fields (0: keep those of the starting weights)",
    )
    imitation_epochs: int = _option(
        8,
        "before training, epochs in which blocks that the starting weights do not have (those of "
        "fused_lite0) learn to give what the blocks there give",
    )
    settle: int = _option(
        256,
        "where batch norms learn too (no-frozen-batch-norm): before each validation, measure the "
        "statistics of the averaged weights on so many training fields (0: keep the running ones)",
    )
    frozen_blocks: int = _option(
        3, "leading blocks whose weights are never changed (0: all are trained)"
    )
    frozen_batch_norm: bool = _option(
        True, "keep batch-norm statistics: on so little data they lag and swing"
    )
    augment: str = _option("strong", "augmentation preset: none, mild, medium, strong")
    augmentation: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "changes to the preset, option by option (a table of the TOML file)"},
    )
    head_epochs: int = _option(1, "epochs with the whole extractor frozen")
    epochs: int = _option(12, "epochs in all, the frozen ones included")
    integer_epochs: int = _option(
        0,
        "epochs after these, fine-tuned with the rounding of an 8-bit file, for networks that lose "
        "by export (0: none)",
    )
    integer_share: float = _option(
        1.0,
        "share of what the integer epochs round that is rounded in a step, drawn anew for each "
        "layer and field; below 1 the float32 network goes on learning too",
    )
    batch_size: int = _option(32, "fields per step")
    head_learning_rate: float = _option(2e-3, "learning rate while the extractor is frozen")
    learning_rate: float = _option(4e-4, "peak learning rate of fine-tuning")
    integer_learning_rate: float = _option(1e-4, "peak learning rate of the integer epochs")
    warmup_steps: int = _option(50, "steps over which each phase's learning rate rises from zero")
    weight_decay: float = _option(1e-4, "AdamW weight decay")
    label_smoothing: float = _option(0.05, "label smoothing")
    class_weights: bool = _option(True, "weigh fields by inverse class frequency")
    ema: float = _option(0.99, "per-step decay of the averaged weights that are kept (0: off)")
    patience: int = _option(6, "stop after so many epochs without a better validation score")
    train_on_validation: bool = _option(
        False,
        "train on the validation role too and keep the last epoch's averaged weights: "
        "for a final run, when epochs and options were settled by earlier ones",
    )
    validation_gain: float = _option(
        0.15, "the validation score also counts fields whose channel gains vary by this much"
    )
    precision: str = _option(
        "float32",
        "arithmetic of the extractor while training: float32, mixed_bfloat16 (faster on "
        "processors that have it), mixed_float16 (graphics cards)",
    )
    teacher: str = _option(
        "", "run folders of trained networks, separated by commas, whose answers are learned too"
    )
    teacher_weight: float = _option(0.5, "share of the teacher's answers in the loss, 0 to 1")
    teacher_temperature: float = _option(
        2.0, "the teacher's and the own answers are softened by it before they are compared"
    )
    seed: int = _option(
        1,
        "seed of initial weights, order and augmentation, and of a split that is not given",
    )

    def __post_init__(self) -> None:
        unbounded = [
            name
            for name, value in self.to_dict().items()
            if isinstance(value, float) and not math.isfinite(value)
        ]
        checks: list[tuple[bool, str]] = [
            (not unbounded, f"{', '.join(unbounded)} must be a finite number"),
            (self.fusion in FUSIONS, f"fusion must be one of {', '.join(FUSIONS)}"),
            (self.epochs >= 1, "epochs must be at least 1"),
            (0 <= self.head_epochs <= self.epochs, "head_epochs must lie between 0 and epochs"),
            (self.integer_epochs >= 0, "integer_epochs must be at least 0"),
            (
                not self.integer_epochs or self.precision == "float32",
                "integer_epochs round float32: set precision to float32",
            ),
            (0 < self.integer_share <= 1, "integer_share must lie in (0, 1]"),
            (self.batch_size >= 1, "batch_size must be at least 1"),
            (self.size % 32 == 0 and self.size > 0, "size must be a positive multiple of 32"),
            (0 <= self.ema < 1, "ema must lie in [0, 1)"),
            (0 <= self.dropout < 1, "dropout must lie in [0, 1)"),
            (0 <= self.label_smoothing < 1, "label_smoothing must lie in [0, 1)"),
            (0 <= self.validation_gain < 1, "validation_gain must lie in [0, 1)"),
            (self.weight_decay >= 0, "weight_decay must be at least 0"),
            (self.dense >= 1, "dense must be at least 1"),
            (self.frozen_blocks >= 0, "frozen_blocks must be at least 0"),
            (self.warmup_steps >= 0, "warmup_steps must be at least 0"),
            (self.patience >= 1, "patience must be at least 1"),
            (0 <= self.seed < 2**32, "seed must lie in 0 to 4294967295"),
            (self.recalibrate >= 0, "recalibrate must be at least 0"),
            (self.settle >= 0, "settle must be at least 0"),
            (self.imitation_epochs >= 0, "imitation_epochs must be at least 0"),
            (self.precision in PRECISIONS, f"precision must be one of {', '.join(PRECISIONS)}"),
            (0 <= self.teacher_weight <= 1, "teacher_weight must lie between 0 and 1"),
            (self.teacher_temperature > 0, "teacher_temperature must be above 0"),
            (
                min(self.learning_rate, self.head_learning_rate, self.integer_learning_rate) > 0,
                "learning rates must be > 0",
            ),
        ]
        for good, message in checks:
            if not good:
                raise UsageError("bad_config", f"configuration: {message}")
        self.augmenting()

    def augmenting(self) -> AugmentConfig:
        """The augmentation preset with the changes of ``augmentation``.

        Raises:
            UsageError: there is no such preset or option, or a value is out of range.
        """
        preset = AugmentConfig.preset(self.augment)
        if not self.augmentation:
            return preset
        return AugmentConfig.from_dict({**preset.to_dict(), **self.augmentation})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    def differences(self, other: TrainConfig) -> list[str]:
        """The keys whose values differ; of paths, only the names of files and runs count."""
        ours, theirs = self.to_dict(), other.to_dict()
        for key in PATHS:
            ours[key], theirs[key] = names_of(ours[key]), names_of(theirs[key])
        return [key for key, value in ours.items() if theirs[key] != value]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Rebuild a configuration; keys missing from older runs take their defaults.

        Raises:
            UsageError: a key is unknown or a value has the wrong type; the message names it.
        """
        known = {f.name: _default(f) for f in dataclasses.fields(cls)}
        resolved: dict[str, Any] = {}
        for key, value in values.items():
            if key not in known:
                raise UsageError("bad_config", f"configuration: unknown key {_unknown(key, known)}")
            default = known[key]
            if (
                isinstance(default, float)
                and isinstance(value, int)
                and not isinstance(value, bool)
            ):
                value = float(value)
            if type(value) is not type(default):
                raise UsageError(
                    "bad_config",
                    f"configuration: {key} must be {_WANTED[type(default)]}, not {value!r}",
                )
            resolved[key] = value
        return cls(**resolved)


def comma_separated(teachers: str) -> list[str]:
    """What stands between the commas of ``TrainConfig.teacher``; one empty word for none."""
    return [part.strip() for part in teachers.split(",")]


def names_of(paths: str) -> str:
    """Names of a file, or of one run or several, without their folders."""
    return ",".join(Path(part).name for part in comma_separated(paths))


_WANTED: Final[dict[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word in quotes",
    dict: "a table",
}


def _default(entry: dataclasses.Field[Any]) -> Any:
    if entry.default is not dataclasses.MISSING:
        return entry.default
    assert entry.default_factory is not dataclasses.MISSING
    return entry.default_factory()


def _unknown(key: str, known: Mapping[str, Any]) -> str:
    """A wrong key with the key that was probably meant, or with all there are."""
    close = difflib.get_close_matches(key.replace("-", "_"), known, n=1)
    advice = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return f"{key!r}; {advice}"


def read_toml(path: Path) -> dict[str, Any]:
    """The keys that a TOML file gives, each checked.

    A relative ``weights`` or ``teacher`` is meant from the file's own folder, so that the file
    works from everywhere; it is returned as it is seen from the working folder.

    Raises:
        UsageError: the file cannot be read or is not TOML, or a key or value is wrong; the
            message names the file and the line or the key.
    """
    try:
        with path.open("rb") as stream:
            values = tomllib.load(stream)
    except OSError as error:
        raise UsageError("bad_config", f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError("bad_config", f"{path}: not TOML ({error})") from error
    for key in PATHS:
        value = values.get(key)
        if isinstance(value, str) and value not in ("", "none", "imagenet"):
            parts = comma_separated(value) if key == "teacher" else [value]
            values[key] = ",".join(str(path.parent / part) for part in parts)
    try:
        TrainConfig.from_dict(values)
    except UsageError as error:
        raise UsageError(error.code, f"{path}: {error.message}") from error
    return values


def options() -> list[tuple[str, Any, str]]:
    """Every key that the command line has, as (name, default, description), in order."""
    return [
        (f.name, f.default, f.metadata["help"])
        for f in dataclasses.fields(TrainConfig)
        if f.default is not dataclasses.MISSING
    ]
