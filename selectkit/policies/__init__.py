"""Exit policies: from probabilities to accept or defer, with the certificate that comes along."""

from selectkit.policies import scores
from selectkit.policies.cascade import CascadePoint, CascadePolicy, Stage, StageCosts, cascade_front
from selectkit.policies.costs import Costs
from selectkit.policies.gate import GatePolicy
from selectkit.policies.guide import Guide
from selectkit.policies.joint import fit_threshold
from selectkit.policies.load import thresholds_policy
from selectkit.policies.outputs import Decision, ExitPolicy, Outputs
from selectkit.policies.per_class import ClasswisePolicy
from selectkit.policies.scores import FITTED, NAMES, SCORES, FittedScore, OwnScore, Score, TrainRows
from selectkit.policies.scrc import ScrcPolicy
from selectkit.policies.softmax import SoftmaxPolicy
from selectkit.policies.target import POSITIVE_RISKS, RISKS, Target, Targets
from selectkit.policies.two_sided import TwoSidedPolicy

__all__ = [
    "FITTED",
    "NAMES",
    "POSITIVE_RISKS",
    "RISKS",
    "SCORES",
    "CascadePoint",
    "CascadePolicy",
    "ClasswisePolicy",
    "Costs",
    "Decision",
    "ExitPolicy",
    "FittedScore",
    "GatePolicy",
    "Guide",
    "Outputs",
    "OwnScore",
    "Score",
    "ScrcPolicy",
    "SoftmaxPolicy",
    "Stage",
    "StageCosts",
    "Target",
    "Targets",
    "TrainRows",
    "TwoSidedPolicy",
    "cascade_front",
    "fit_threshold",
    "scores",
    "thresholds_policy",
]
