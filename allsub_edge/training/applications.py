"""Feature extractors from keras.applications, without the preprocessing some of them contain."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from allsub_edge.errors import DataError
from allsub_edge.training.starting_weights import IMAGENET

BN_MOMENTUM: Final = 0.99
"""Upper bound of batch-norm momentum. Some networks have 0.999 and more, which takes thousands of
steps to follow; a training on a few thousand fields has hundreds."""

_PREPROCESSING: Final = (keras.layers.Rescaling, keras.layers.Normalization)


@dataclass(frozen=True)
class Application:
    """How one network is made from keras.applications.

    Attributes:
        function: its name there.
        layers: cut name -> name of the last layer; ``full`` is the whole network.
        options: further arguments of the function.
        bgr: its published weights expect blue first. They are turned when they are loaded, so
            that the extractor takes RGB as everything here does.
    """

    function: str
    layers: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)
    bgr: bool = False

    def build(self, size: int, cut: str, name: str) -> Any:
        """Build the extractor with random weights.

        Args:
            size: input side in pixels.
            cut: ``full`` or a key of :attr:`layers`.
            name: name of the Keras model.

        Returns:
            A Keras model from the normalised field float32 [N, size, size, 3] to a feature map.
        """
        return _bare(self._cut(self._whole(size), cut), name)

    def load(self, extractor: Any, source: Path | str, cut: str) -> None:
        """Load starting weights of the whole network into an extractor of :meth:`build`.

        Args:
            extractor: the extractor.
            source: a weights file that Keras saved of this network with ``include_top=False``
                (``.weights.h5``, legacy ``.h5`` or ``.keras``), or ``imagenet`` for the download
                of keras.applications.
            cut: where the extractor was cut.

        Raises:
            DataError: the file is missing or of another network; the download fails.
        """
        if source == IMAGENET:
            # At the network's own size, because some refuse their weights at any other.
            whole = self.download()
        else:
            whole = self._whole(extractor.input.shape[1])
            self._load_file(whole, Path(source))
        values = [w for layer in _proper(self._cut(whole, cut)) for w in layer.get_weights()]
        if self.bgr:
            values[0] = values[0][:, :, ::-1, :]
        extractor.set_weights(values)

    def download(self) -> Any:
        """The whole network with its ImageNet weights; downloaded once, then kept by Keras.

        Raises:
            DataError: there is no network, or the file is damaged.
        """
        function = getattr(keras.applications, self.function)
        try:
            return function(include_top=False, weights=IMAGENET, **self.options)
        except Exception as error:  # Keras wraps whatever goes wrong into a bare Exception
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                "no_weights",
                f"{self.function}: its ImageNet weights could not be downloaded ({reason}); on a "
                f'machine with a network run: python -c "import keras; keras.applications.'
                f'{self.function}(include_top=False)" and copy the file it leaves in '
                "~/.keras/models to the same folder here, or give --weights FILE or none",
            ) from error

    def _whole(self, size: int) -> Any:
        function = getattr(keras.applications, self.function)
        return function(
            include_top=False, weights=None, input_shape=(size, size, 3), **self.options
        )

    def _cut(self, whole: Any, cut: str) -> Any:
        if cut == "full":
            return whole
        return keras.Model(whole.input, whole.get_layer(self.layers[cut]).output)

    def _load_file(self, whole: Any, path: Path) -> None:
        if not path.is_file():
            raise DataError(
                "no_weights", f"{path}: no such weights file; give --weights FILE, imagenet or none"
            )
        # Keras only warns of some layers that a file lacks, so what it leaves untouched must show.
        for variable in whole.variables:
            if variable.dtype.startswith("float"):
                variable.assign(np.full(variable.shape, np.nan, np.float32))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                whole.load_weights(path)
            lacking = [
                x.name for x in whole.layers if any(np.isnan(w).any() for w in x.get_weights())
            ]
            if lacking:
                raise ValueError(f"nothing usable for {', '.join(lacking[:3])}")
        except Exception as error:  # h5py, zipfile and Keras each have their own
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                "bad_weights",
                f"{path}: not a weights file of {self.function} without its top ({reason}); save "
                f"one with keras.applications.{self.function}(include_top=False)"
                ".save_weights('NAME.weights.h5')",
            ) from error


def _proper(model: Any) -> list[Any]:
    """The layers without the preprocessing that some networks begin with."""
    return [layer for layer in model.layers if not isinstance(layer, _PREPROCESSING)]


def _bare(model: Any, name: str) -> Any:
    """A fresh copy that takes normalised fields, with batch norms that follow in time."""

    def copy(layer: Any) -> Any:
        if isinstance(layer, _PREPROCESSING):
            return keras.layers.Identity(name=layer.name)
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["momentum"] = min(config["momentum"], BN_MOMENTUM)
        return type(layer).from_config(config)

    result = keras.models.clone_model(model, clone_function=copy)
    result.name = name
    return result
