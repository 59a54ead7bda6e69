"""Exit policies: from probabilities to accept or defer, with the certificate that comes along."""

from selectkit.policies import scores
from selectkit.policies.outputs import Decision, ExitPolicy, Outputs
from selectkit.policies.scores import SCORES, Score
from selectkit.policies.softmax import SoftmaxPolicy
from selectkit.policies.target import POSITIVE_RISKS, RISKS, Target

__all__ = [
    "POSITIVE_RISKS",
    "RISKS",
    "SCORES",
    "Decision",
    "ExitPolicy",
    "Outputs",
    "Score",
    "SoftmaxPolicy",
    "Target",
    "scores",
]
