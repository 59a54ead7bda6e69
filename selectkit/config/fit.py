"""Settings of `selectkit fit`: the head, its loss, its training."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from selectkit.config.setting import AboveZero, AtLeastZero, BelowOne, Count, Help, Positive, Share

_LOSS, _TRAINING, _WATCHING = "Loss", "Training", "Around the training"


@dataclass(frozen=True)
class FitConfig:
    """Settings of `selectkit fit`; trained heads are mlp, three and abstain."""

    view: Annotated[
        str,
        Help("View whose features are used; several, a+b or one flag each, lie side by side."),
    ] = "base"
    feature: Annotated[
        str,
        Help(
            "Cached feature: cls, patch_mean, or what else the view has; a+b is a and b side by "
            "side, cat is cls+patch_mean."
        ),
    ] = "cls"
    head: Annotated[
        Literal["linear", "mlp", "three", "abstain", "ridge", "prototype", "knn"],
        Help(
            "linear: logistic regression; mlp: a trained network; three: with a gate; abstain: "
            "with an output for abstaining; ridge, prototype, knn: cheap baselines."
        ),
    ] = "linear"
    positive: Annotated[
        str | None,
        Help("Label whose misses count as false negatives; of two classes, the last by default."),
    ] = None
    seed: Annotated[
        Annotated[int, Ge(0), Lt(2**63)],
        Help("Seed of the initial weights of trained heads; rows come in one order for all seeds."),
    ] = 0
    loss: Annotated[
        Literal[
            "cross_entropy", "focal", "conformal_risk", "conformal_sets", "selective_net",
            "gamblers", "self_adaptive",
        ] | None,
        Help(
            "mlp: cross_entropy (its default), focal, or fine-tuning by conformal_risk (fewest "
            "false positives at a false negative rate) or conformal_sets (smallest prediction "
            "sets); three: selective_net; abstain: self_adaptive (its default) or gamblers.",
            _LOSS,
        ),
    ] = None  # fmt: skip
    init: Annotated[
        str | None,
        Help(
            "conformal_*: run whose linear or mlp head is fine-tuned; by default one is trained by "
            "cross_entropy first, with the same settings.",
            _LOSS,
        ),
    ] = None
    target: Annotated[
        str | None,
        Help(
            "conformal_risk: fnr=RATE, positives that the threshold may lose; conformal_sets: "
            "error=RATE, sets that may lack the label. Aimed at, not promised.",
            _LOSS,
        ),
    ] = None
    objective: Annotated[
        Literal["fpr", "deferral"],
        Help(
            "conformal_risk: fpr, negatives above the threshold; deferral, rows between it and its "
            "mirror image.",
            _LOSS,
        ),
    ] = "fpr"
    temperature: Annotated[
        AboveZero,
        Help("conformal_*: width of a soft threshold, in probability or (sets) in nats.", _LOSS),
    ] = 0.1
    kappa: Annotated[
        Literal[0, 1], Help("conformal_sets: size from which on a set costs.", _LOSS)
    ] = 1
    size_weight: Annotated[
        AtLeastZero, Help("conformal_sets: lambda, price of the size of sets.", _LOSS)
    ] = 1.0
    class_weights: Annotated[
        Literal["balanced"] | None, Help("balanced weighs every class the same.", _LOSS)
    ] = None
    smoothing: Annotated[BelowOne, Help("cross_entropy: label smoothing.", _LOSS)] = 0.0
    gamma: Annotated[AtLeastZero, Help("focal: exponent; 0 is cross-entropy.", _LOSS)] = 2.0
    coverage: Annotated[
        Annotated[float, Gt(0), Le(1)], Help("selective_net: target coverage.", _LOSS)
    ] = 0.8
    coverage_penalty: Annotated[
        AtLeastZero, Help("selective_net: lambda, price of too little coverage.", _LOSS)
    ] = 32.0
    alpha: Annotated[
        Share, Help("selective_net: weight of the selective part beside the auxiliary one.", _LOSS)
    ] = 0.5
    unnormalised: Annotated[
        bool,
        Help(
            "selective_net: risk not divided by coverage, as in its published code instead of the "
            "paper.",
            _LOSS,
        ),
    ] = False
    risk_target: Annotated[
        BelowOne | None,
        Help("selective_net: also penalise a soft selective risk above this.", _LOSS),
    ] = None
    risk_penalty: Annotated[
        AtLeastZero, Help("selective_net: price of risk above --risk-target.", _LOSS)
    ] = 32.0
    payoff: Annotated[
        Annotated[float, Gt(1)],
        Help("gamblers: above 1, at most the number of classes; lower abstains more.", _LOSS),
    ] = 1.5
    target_momentum: Annotated[
        BelowOne,
        Help("self_adaptive: momentum of the soft targets.", _LOSS),
    ] = 0.9
    entropy: Annotated[
        AtLeastZero, Help("self_adaptive: weight of entropy minimisation.", _LOSS)
    ] = 0.0
    pretrain: Annotated[
        Count,
        Help("gamblers, self_adaptive: epochs of cross-entropy before.", _LOSS),
    ] = 0
    hidden: Annotated[Count, Help("Hidden units; 0: linear in the features.", _TRAINING)] = 768
    epochs: Annotated[Positive, Help("Most passes over train.", _TRAINING)] = 50
    patience: Annotated[
        Positive, Help("Epochs without a better val_select before training ends.", _TRAINING)
    ] = 10
    batch_size: Annotated[Positive, Help("Rows per step.", _TRAINING)] = 512
    accumulation: Annotated[
        Positive, Help("Parts in which a step's rows are computed; same result.", _TRAINING)
    ] = 1
    learning_rate: Annotated[AboveZero, Help("Peak learning rate.", _TRAINING)] = 1e-3
    warm_up: Annotated[
        Share, Help("Share of the steps in which the learning rate rises.", _TRAINING)
    ] = 0.05
    weight_decay: Annotated[AtLeastZero, Help("Decoupled weight decay.", _TRAINING)] = 1e-2
    optimizer: Annotated[
        Literal["adamw", "sgd", "lion"], Help("adamw, sgd or lion.", _TRAINING)
    ] = "adamw"
    clip: Annotated[
        AboveZero | None, Help("Largest norm of the gradient; no limit by default.", _TRAINING)
    ] = None
    averaging: Annotated[
        Literal["warm-up", "bias-corrected", "none"],
        Help("Moving average of the weights, which is what is kept; none keeps them.", _TRAINING),
    ] = "warm-up"
    sam_rho: Annotated[
        AboveZero | None,
        Help("Friendly SAM with this radius around the optimizer; off by default.", _TRAINING),
    ] = None
    sam_sigma: Annotated[
        AtLeastZero,
        Help("Friendly SAM: share of the average gradient left out; 0 is SAM.", _TRAINING),
    ] = 1.0
    sam_decay: Annotated[
        BelowOne,
        Help("Friendly SAM: lambda, decay of that average.", _TRAINING),
    ] = 0.9
    sam_adaptive: Annotated[
        bool, Help("Friendly SAM: radius scaled by the weights (ASAM).", _TRAINING)
    ] = False
    select_by: Annotated[
        str,
        Help(
            "What epochs, and configurations of a sweep, are judged by on val_select: nll, augrc, "
            "or coverage@fnr=0.02 (augrc and coverage of the maximal softmax probability); "
            "fine-tuning by conformal_* judges its epochs by its own target.",
            _TRAINING,
        ),
    ] = "nll"
    device: Annotated[
        str,
        Help(
            "For trained heads: cpu, cuda, cuda:1, ...; auto takes a GPU when there is one.",
            _TRAINING,
        ),
    ] = "auto"
    folds: Annotated[
        Annotated[int, Ge(2)] | None,
        Help(
            "k: also fit k heads, each without one k-th of the groups of train, and store what "
            "each says about the rows it did not see.",
            _WATCHING,
        ),
    ] = None
    tensorboard: Annotated[bool, Help("Also log the training to RUN/tensorboard.", _WATCHING)] = (
        False
    )
