"""Settings of `selectkit calibrate`: what is promised, by which policy."""

from dataclasses import dataclass
from typing import Annotated, Literal

from selectkit.config.cascade import (
    CostUnit,
    HumanCost,
    LastDecides,
    StageCosts,
    Stages,
    ViewSeconds,
)
from selectkit.config.setting import Help, Rate, Score


@dataclass(frozen=True)
class CalibrateConfig:
    """Settings of `selectkit calibrate`."""

    target: Annotated[
        str | None,
        Help(
            "What to promise: error, fnr, miss_rate, fpr, false_alarm or deferral =RATE, several "
            "with commas between; or coverage=SHARE, which promises nothing."
        ),
    ] = None
    policy: Annotated[
        Literal["softmax", "two_sided", "per_class", "gate", "scrc", "cascade", "auto"],
        Help(
            "softmax: one threshold on a confidence; two_sided: negative, deferred, positive; "
            "per_class: one threshold for each predicted class; gate: the "
            "trained gate; scrc: prediction sets; cascade: several runs; auto: the one that "
            "promises most on val_select, a cascade among them where --stages are named."
        ),
    ] = "softmax"
    cost: Annotated[
        str | None,
        Help(
            "Take the cheapest certified policy: miss=50,false_alarm=3,defer=1, or for any number "
            "of classes error=20,defer=1."
        ),
    ] = None
    per_group: Annotated[
        str | None,
        Help("Keep every target for each value of this column of the manifest on its own."),
    ] = None
    delta: Annotated[Rate, Help("The promises may fail with at most this probability.")] = 0.1
    calibrator: Annotated[
        Literal[
            "temperature", "vector", "matrix", "dirichlet", "platt", "beta", "isotonic",
            "histogram", "none", "auto",
        ],
        Help(
            "Probability calibrator, fitted on val_select: temperature, vector, matrix, dirichlet, "
            "isotonic, histogram, for two classes also platt, beta; none; or auto: the smallest "
            "cross-validated likelihood, by group."
        ),
    ] = "temperature"  # fmt: skip
    score: Annotated[
        Score,
        Help(
            "Confidence that is compared with the threshold: msp, margin, neg_entropy, energy, "
            "max_logit, gate, mahalanobis, knn, vim, react or residual."
        ),
    ] = "msp"
    xi: Annotated[
        Rate, Help("Share of images that the score is to let pass to the sets.", "Prediction sets")
    ] = 0.8
    variant: Annotated[
        Literal["t", "split_pac", "joint"],
        Help(
            "t: the promise holds on average; split_pac, joint: with confidence 1 - delta.",
            "Prediction sets",
        ),
    ] = "t"
    sets: Annotated[
        Literal["threshold", "cumulative", "ordinal"],
        Help("How sets grow: by probability, by cumulated probability, or in order of the classes.",
             "Prediction sets"),
    ] = "threshold"  # fmt: skip
    exits: Annotated[
        Literal["accepted", "singletons"],
        Help(
            "accepted: answer with a set; singletons: decide only where it is a single class, and "
            "promise the error of these decisions.",
            "Prediction sets",
        ),
    ] = "accepted"
    stages: Stages = None
    stage_costs: StageCosts = None
    view_seconds: ViewSeconds = None
    cost_unit: CostUnit = "s"
    human_cost: HumanCost = None
    last_decides: LastDecides = False
