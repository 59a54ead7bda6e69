"""Calibrators on disk: what comes back, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from selectkit import artifact, calibrate
from selectkit.calibrate import (
    CALIBRATORS,
    AnyCalibrator,
    Beta,
    Dirichlet,
    Histogram,
    Identity,
    Isotonic,
    MatrixScaling,
    Platt,
    Temperature,
    VectorScaling,
)
from selectkit.errors import ArtifactError

HASH = "sha256:" + "0" * 64


W = ((1.0, 0.25), (-0.5, 2.0))
CURVE = ((-1.0, 2.0), (0.25, 0.75))


@pytest.mark.parametrize(
    "calibrator",
    [
        Temperature(1.5),
        VectorScaling((1.0, 2.0), (0.5, -0.5)),
        MatrixScaling(W, (0.5, -0.5), (1e-3, 0.0)),
        Dirichlet(W, (0.5, -0.5), (0.1, 1e-4)),
        Platt(0.5, -2.0),
        Beta(1.0, 0.0, -2.0),
        Isotonic((CURVE,)),
        Isotonic((CURVE, CURVE, ((0.0,), (0.5,)))),
        Histogram((((0.5,), (0.25, 0.75)), ((), (0.1,)), ((0.0, 1.0), (0.1, 0.3, 0.2)))),
        Identity(),
    ],
)
def test_a_saved_calibrator_comes_back(tmp_path: Path, calibrator: AnyCalibrator) -> None:
    context = {"fitted_on": HASH, "head": HASH}
    artifact.save(tmp_path / "calibrator.json", "calibrator", {**calibrator.to_dict(), **context})
    document, _ = artifact.load(tmp_path / "calibrator.json", "calibrator")
    assert calibrate.from_dict(document) == calibrator


def test_every_calibrator_is_listed_under_its_method() -> None:
    assert all(name == kind.method for name, kind in CALIBRATORS.items())
    assert set(CALIBRATORS) == {
        "temperature", "vector", "matrix", "dirichlet", "platt", "beta", "isotonic", "histogram",
        "none",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "calibrator method None is unknown to this release; known: temperature, vector, "),
        ({"method": "magic"}, "calibrator method 'magic' is unknown"),
        ({"method": "temperature"}, "the temperature calibrator lacks 'parameters'"),
        ({"method": "temperature", "parameters": {}}, "calibrator lacks 'temperature'"),
        (
            {"method": "temperature", "parameters": {"temperature": -1}},
            "the temperature calibrator is malformed: temperature must be positive, got -1",
        ),
        (
            {"method": "platt", "parameters": {"slope": 0, "intercept": 0}},
            "malformed: slope must be positive and intercept finite, got 0 and 0",
        ),
        ({"method": "platt", "parameters": {"slope": 1}}, "the platt calibrator lacks 'intercept'"),
        (
            {"method": "vector", "parameters": {"weights": [1.0], "bias": [0.0, 0.0]}},
            "vector calibrator is malformed: weights must be 2 numbers, got 1",
        ),
        (
            {"method": "matrix", "parameters": {"weights": [[1.0]], "bias": [0.0, 0.0]}},
            "matrix calibrator is malformed: weights must have 2 rows",
        ),
        (
            {"method": "vector", "parameters": {"weights": [1.0], "bias": [float("nan")]}},
            "vector calibrator is malformed: bias must be finite",
        ),
        (
            {"method": "dirichlet", "parameters": {"weights": [[1.0]], "bias": [0.0]}},
            "dirichlet calibrator lacks 'off_diagonal'",
        ),
        (
            {"method": "beta", "parameters": {"a": -1, "b": 1, "c": 0}},
            "a and b must be at least 0 and not both 0, c finite; got -1, 1, 0",
        ),
        (
            {"method": "isotonic", "parameters": {"knots": [[0, 1]], "values": [[0.5, 0.4]]}},
            "isotonic calibrator is malformed: values must not decrease along a curve",
        ),
        (
            {"method": "isotonic", "parameters": {"knots": [[1, 0]], "values": [[0.4, 0.5]]}},
            "malformed: knots must ascend and values lie between 0 and 1",
        ),
        (
            {"method": "histogram", "parameters": {"knots": [[0]], "values": [[0.5, 1.0]]}},
            "malformed: knots must ascend and values lie between 0 and 1",
        ),
        (
            {"method": "histogram", "parameters": {"knots": [], "values": []}},
            "malformed: there must be one curve, or one per class",
        ),
        ({"method": "platt", "parameters": None}, "the platt calibrator is malformed"),
    ],
)
def test_damaged_documents_are_refused(document: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        calibrate.from_dict(document)
