"""Settings of `selectkit calibrate`: what is promised, by which policy."""

from dataclasses import dataclass
from typing import Annotated, Literal

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
            "promises most on val_select."
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
    stages: Annotated[
        str | None, Help("Runs that see what the first one leaves, in order: RUN,RUN.", "Cascades")
    ] = None
    stage_costs: Annotated[
        str | None,
        Help("Cost of an image in each stage, the first run's first: 0.002,0.03.", "Cascades"),
    ] = None
    view_seconds: Annotated[
        str | None,
        Help("Instead: seconds to extract an image, VIEW=SECONDS,VIEW=SECONDS; heads are measured.",
             "Cascades"),
    ] = None  # fmt: skip
    cost_unit: Annotated[str, Help("Unit of these costs.", "Cascades")] = "s"
    human_cost: Annotated[
        float | None, Help("Cost of an image that no stage decides.", "Cascades")
    ] = None
    last_decides: Annotated[
        bool, Help("The last stage decides every image that reaches it.", "Cascades")
    ] = False
