"""Exit policies: from probabilities to accept or defer, with the certificate that comes along."""

from selectkit.policies import scores
from selectkit.policies.outputs import Decision, ExitPolicy, Outputs
from selectkit.policies.scores import FITTED, NAMES, SCORES, FittedScore, OwnScore, Score, TrainRows
from selectkit.policies.softmax import SoftmaxPolicy
from selectkit.policies.target import POSITIVE_RISKS, RISKS, Target

__all__ = [
    "FITTED",
    "NAMES",
    "POSITIVE_RISKS",
    "RISKS",
    "SCORES",
    "Decision",
    "ExitPolicy",
    "FittedScore",
    "Outputs",
    "OwnScore",
    "Score",
    "SoftmaxPolicy",
    "Target",
    "TrainRows",
    "scores",
]
