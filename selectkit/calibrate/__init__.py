"""Calibrators: logits in, probabilities out. Fitted on held-out labels, stored as a few numbers."""

from selectkit.calibrate.beta import Beta
from selectkit.calibrate.calibrator import CALIBRATORS, AnyCalibrator, Calibrator, from_dict
from selectkit.calibrate.choice import Candidate, Choice, choose
from selectkit.calibrate.dirichlet import Dirichlet
from selectkit.calibrate.histogram import Histogram
from selectkit.calibrate.identity import Identity
from selectkit.calibrate.isotonic import Isotonic
from selectkit.calibrate.matrix import MatrixScaling
from selectkit.calibrate.platt import Platt
from selectkit.calibrate.temperature import Temperature
from selectkit.calibrate.vector import VectorScaling
from selectkit.verbs import also_a_verb

__all__ = [
    "CALIBRATORS",
    "AnyCalibrator",
    "Beta",
    "Calibrator",
    "Candidate",
    "Choice",
    "Dirichlet",
    "Histogram",
    "Identity",
    "Isotonic",
    "MatrixScaling",
    "Platt",
    "Temperature",
    "VectorScaling",
    "choose",
    "from_dict",
]

also_a_verb(__name__)
