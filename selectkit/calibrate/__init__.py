"""Calibrators: logits in, probabilities out. Fitted on held-out labels, stored as a few numbers."""

from selectkit.calibrate.calibrator import CALIBRATORS, AnyCalibrator, Calibrator, from_dict
from selectkit.calibrate.identity import Identity
from selectkit.calibrate.platt import Platt
from selectkit.calibrate.temperature import Temperature
from selectkit.verbs import also_a_verb

__all__ = [
    "CALIBRATORS",
    "AnyCalibrator",
    "Calibrator",
    "Identity",
    "Platt",
    "Temperature",
    "from_dict",
]

also_a_verb(__name__)
