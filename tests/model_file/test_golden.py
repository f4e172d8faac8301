from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from allsub_edge.classes import CLASSES
from allsub_edge.engines.base import Engine, RawOutput
from allsub_edge.engines.onnx_runtime import OnnxRuntimeEngine
from allsub_edge.errors import ModelFileError
from allsub_edge.imaging.render import RENDERER
from allsub_edge.model_file.container import parse
from allsub_edge.model_file.golden import make_cases, make_golden, replay
from allsub_edge.model_file.manifest import Golden
from tests import toy_model


@pytest.fixture(scope="module")
def engine() -> Engine:
    return OnnxRuntimeEngine(toy_model.model(), threads=1)


@pytest.fixture(scope="module")
def golden(engine: Engine) -> Golden:
    return make_golden(engine.run, toy_model.TOLERANCE, seeds=(3,), labels=("Benign", "Pro"))


def test_cases_hold_different_answers(engine: Engine) -> None:
    cases = make_cases(engine.run, seeds=(1, 2))
    assert len(cases) == 2 * len(CLASSES)
    assert len({case.field_sha256 for case in cases}) == len(cases)
    assert len({case.mask_sha256 for case in cases}) == len(cases)
    answers = np.array([case.probabilities for case in cases])
    assert np.ptp(answers, axis=0).max() > 0.01


def test_the_maker_passes_its_own_cases(engine: Engine, golden: Golden) -> None:
    results = replay(golden, engine.run)
    assert [r.passed for r in results] == [True, True]
    assert max(r.probability_difference for r in results) < 1e-6


def test_cases_survive_the_model_file(engine: Engine) -> None:
    stored = parse(toy_model.complete()).manifest.golden
    assert len(stored.cases) == len(CLASSES)
    assert stored.renderer == RENDERER
    assert all(r.passed for r in replay(stored, engine.run))


@pytest.mark.parametrize(
    ("change", "attribute"),
    [
        (lambda out: RawOutput(out[0] + 2e-4, out[1], out[2]), "probability_difference"),
        (lambda out: RawOutput(out[0], out[1] * 1.5 + 1, out[2]), "distance_difference"),
        (lambda out: RawOutput(out[0], out[1], 1 - out[2]), "mask_equal"),
        (lambda out: RawOutput(out[0] * np.nan, out[1], out[2]), "probability_difference"),
        (lambda out: RawOutput(out[0], out[1] * np.nan, out[2]), "distance_difference"),
    ],
)
def test_another_answer_fails(engine, golden, change, attribute) -> None:  # type: ignore[no-untyped-def]
    right = replay(golden, engine.run)
    wrong = replay(golden, lambda fields: change(engine.run(fields)))
    assert not any(r.passed for r in wrong)
    assert getattr(wrong[0], attribute) != getattr(right[0], attribute)


def test_another_field_fails(engine: Engine, golden: Golden) -> None:
    spoilt = replace(golden, cases=(replace(golden.cases[0], field_sha256="0" * 64),))
    result = replay(spoilt, engine.run)[0]
    assert not result.passed
    assert not result.field_equal
    assert result.mask_equal


def test_another_renderer_is_refused(engine: Engine, golden: Golden) -> None:
    with pytest.raises(ModelFileError) as caught:
        replay(replace(golden, renderer="render/999"), engine.run)
    assert caught.value.code == "unknown_renderer"


def test_a_model_without_numbers_makes_no_cases() -> None:
    broken = OnnxRuntimeEngine(toy_model.model(broken=True), threads=1)
    with pytest.raises(ModelFileError) as caught:
        make_cases(broken.run, seeds=(1,))
    assert caught.value.code == "bad_output"
