"""The published way, as a program of its own: the reference that ratios are told against.

Two DenseNet201 extractors in Keras, concatenated; the field and its segmentation by the authors'
procedure with OpenCV, including the JPEG round trip; ``predict`` one field at a time. Weights are
random: the time does not depend on them, and the authors' are not public.

    python -m allsub_edge.benchmarks.published_way FIELD...
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SIZE = 224


def build() -> Any:
    """The two-branch network: two float32 inputs [N, 224, 224, 3] -> probabilities [N, 4]."""
    import keras

    inputs, features = [], []
    for name in ("original", "segmented"):
        extractor = keras.applications.DenseNet201(
            include_top=False, weights=None, pooling="avg", input_shape=(SIZE, SIZE, 3), name=name
        )
        inputs.append(keras.Input((SIZE, SIZE, 3), name=f"{name}_input"))
        features.append(extractor(inputs[-1]))
    joined = keras.layers.Concatenate()(features)
    dense = keras.layers.Dense(128, activation="relu")(joined)
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(dense))


def channels(data: bytes) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Both channels as the authors' notebook makes them, float32 [1, 224, 224, 3] in 0..1.

    Args:
        data: an image file's bytes.
    """
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    mask = cv2.inRange(hsv, np.array([168, 50, 50]), np.array([182, 255, 255]))
    segmented = cv2.resize(cv2.bitwise_and(hsv, hsv, mask=mask), (SIZE, SIZE))
    with tempfile.TemporaryDirectory() as folder:
        written = str(Path(folder) / "segmented.jpg")
        cv2.imwrite(written, segmented)
        again = cv2.cvtColor(cv2.imread(written), cv2.COLOR_BGR2RGB)
    original = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), (SIZE, SIZE))
    return (
        (original[None] / 255.0).astype(np.float32),
        (again[None] / 255.0).astype(np.float32),
    )


def open_published() -> tuple[Callable[[bytes], npt.NDArray[np.float32]], dict[str, Any]]:
    """Open the published way as a contender of ``allsub-edge bench``."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    model = build()

    def answer(data: bytes) -> npt.NDArray[np.float32]:
        return np.asarray(model.predict(list(channels(data)), verbose=0)[0], np.float32)

    return answer, {"engine": f"keras {keras.__version__}", "threads": None}


def main(paths: list[str]) -> int:
    """Predict every field; prints one line for each."""
    answer, _ = open_published()
    for path in paths:
        print(path, int(answer(Path(path).read_bytes()).argmax()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
