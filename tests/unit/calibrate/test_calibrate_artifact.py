"""Calibrators on disk: what comes back, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from selectkit import artifact, calibrate
from selectkit.calibrate import CALIBRATORS, AnyCalibrator, Identity, Platt, Temperature
from selectkit.errors import ArtifactError

HASH = "sha256:" + "0" * 64


@pytest.mark.parametrize("calibrator", [Temperature(1.5), Platt(0.5, -2.0), Identity()])
def test_a_saved_calibrator_comes_back(tmp_path: Path, calibrator: AnyCalibrator) -> None:
    context = {"fitted_on": HASH, "head": HASH}
    artifact.save(tmp_path / "calibrator.json", "calibrator", {**calibrator.to_dict(), **context})
    document, _ = artifact.load(tmp_path / "calibrator.json", "calibrator")
    assert calibrate.from_dict(document) == calibrator


def test_every_calibrator_is_listed_under_its_method() -> None:
    assert {name: kind.method for name, kind in CALIBRATORS.items()} == {
        "temperature": "temperature",
        "platt": "platt",
        "none": "none",
    }


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "calibrator method None is unknown to this release; known: temperature, platt, none"),
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
        ({"method": "platt", "parameters": None}, "the platt calibrator is malformed"),
    ],
)
def test_damaged_documents_are_refused(document: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        calibrate.from_dict(document)
