"""What the tests of the verbs share: a model file that needs no training."""

from __future__ import annotations

import pytest

from tests import toy_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The toy model, sealed; a module that needs another has a fixture of this name."""
    path = tmp_path_factory.mktemp("model") / "toy.onnx"
    path.write_bytes(toy_model.sealed())
    return str(path)
