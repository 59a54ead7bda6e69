"""Every setting of every command: name, type, range, default and meaning, in one place.

Command-line flags (`--learning-rate`), TOML keys (`[fit] learning_rate`) and keyword arguments
(`selectkit.fit(..., learning_rate=...)`) are the fields of these classes.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, Lt

Positive: TypeAlias = Annotated[int, Gt(0)]
Rate: TypeAlias = Annotated[float, Gt(0), Lt(1)]


@dataclass(frozen=True, slots=True)
class Help:
    """What a setting means, in one line.

    Attributes:
        text: The meaning.
        panel: Heading under which `--help` shows it.
    """

    text: str
    panel: str | None = None


@dataclass(frozen=True)
class ExtractConfig:
    """Settings of `selectkit extract`."""

    path: Annotated[str | None, Help("Manifest column with the image path.")] = None
    label: Annotated[
        str | None, Help("Manifest column with the label; 'none' when the images are unlabelled.")
    ] = None
    group: Annotated[
        str | None,
        Help("Manifest column with the group (site, video, track) that splits must not break."),
    ] = None
    id: Annotated[str | None, Help("Manifest column with the row id; defaults to the path.")] = None
    backbone: Annotated[
        str,
        Help(
            "tiny, dinov3-{s,s+,b,l,h+,7b}, timm:<id>, hf:<org/name>, or a local checkpoint folder."
        ),
    ] = "dinov3-s"
    view: Annotated[str, Help("Name of the view in the store: one backbone over the index.")] = (
        "base"
    )
    preprocess: Annotated[
        str,
        Help(
            "meta-eval: shorter side to size * 256 / 224, centre crop; "
            "squash: resize both sides; auto: what the backbone asks for; "
            "or a .toml or .json file with size, mode, interpolation, resize (shorter side)."
        ),
    ] = "auto"
    size: Annotated[Positive | None, Help("Image side in pixels; defaults to the backbone's.")] = (
        None
    )
    dtype: Annotated[
        Literal["float16", "float32", "bfloat16"], Help("Number format of the stored features.")
    ] = "float16"
    last: Annotated[
        Annotated[int, Ge(0)],
        Help("n: also cache cls_last<n>, the class tokens of the last n blocks."),
    ] = 0
    flip: Annotated[
        bool, Help("Features are the mean over each image and its mirror image; twice the work.")
    ] = False
    crops: Annotated[
        Literal[1, 5],
        Help(
            "5: features are the mean over the centre and the four corners of meta-eval's resize."
        ),
    ] = 1
    compute: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Help(
            "Precision of the forward pass; auto: the view's own, else bfloat16 where the hardware "
            "is made for it and features stay near."
        ),
    ] = "auto"
    batch_size: Annotated[
        Positive | None,
        Help("Images per forward pass; by default the view's own, else what the device takes."),
    ] = None
    workers: Annotated[
        Positive | None, Help("Decoders at work; by default one per core this process may use.")
    ] = None
    rows_per_shard: Annotated[
        Positive, Help("Rows per shard: the unit of work that an interruption can cost.")
    ] = 4096
    device: Annotated[str, Help("cpu, cuda, cuda:1, ...; auto takes a GPU when there is one.")] = (
        "auto"
    )
    rescan: Annotated[
        bool,
        Help("Read committed images again: take over changed ones, mark missing ones as deleted."),
    ] = False
    shard_range: Annotated[
        str | None,
        Help("i/n: only the i-th of n parts, for jobs of a scheduler that fill one store."),
    ] = None
    engine: Annotated[
        Literal["local", "ray"],
        Help("local: this process; ray: workers of a Ray cluster, one per GPU or machine."),
    ] = "local"
    actors: Annotated[
        Positive | None, Help("ray: number of workers; default one per GPU, else per machine.")
    ] = None
    ray_address: Annotated[
        str | None,
        Help("ray: host:port or auto; default RAY_ADDRESS, else a cluster on this machine."),
    ] = None


@dataclass(frozen=True)
class SplitConfig:
    """Settings of `selectkit split`; None keeps what the store has."""

    salt: Annotated[str | None, Help("Another salt gives another random split.")] = None
    fractions: Annotated[
        str | None,
        Help("Shares of train,val_select,val_calib,val_test, for instance 0.6,0.1,0.2,0.1."),
    ] = None


Share: TypeAlias = Annotated[float, Ge(0), Le(1)]
AtLeastZero: TypeAlias = Annotated[float, Ge(0)]
AboveZero: TypeAlias = Annotated[float, Gt(0)]

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
    smoothing: Annotated[
        Annotated[float, Ge(0), Lt(1)], Help("cross_entropy: label smoothing.", _LOSS)
    ] = 0.0
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
        Annotated[float, Ge(0), Lt(1)] | None,
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
        Annotated[float, Ge(0), Lt(1)],
        Help("self_adaptive: momentum of the soft targets.", _LOSS),
    ] = 0.9
    entropy: Annotated[
        AtLeastZero, Help("self_adaptive: weight of entropy minimisation.", _LOSS)
    ] = 0.0
    pretrain: Annotated[
        Annotated[int, Ge(0)],
        Help("gamblers, self_adaptive: epochs of cross-entropy before.", _LOSS),
    ] = 0
    hidden: Annotated[
        Annotated[int, Ge(0)], Help("Hidden units; 0: linear in the features.", _TRAINING)
    ] = 768
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
        Annotated[float, Ge(0), Lt(1)],
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
        Literal[
            "msp", "margin", "neg_entropy", "energy", "max_logit", "gate", "mahalanobis", "knn",
            "vim", "react", "residual",
        ],
        Help(
            "Confidence that is compared with the threshold: msp, margin, neg_entropy, energy, "
            "max_logit, gate, mahalanobis, knn, vim, react or residual."
        ),
    ] = "msp"  # fmt: skip
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


@dataclass(frozen=True)
class CompareConfig:
    """Settings of `selectkit compare`."""

    split: Annotated[
        Literal["val_select", "val_test"],
        Help("val_select to choose by, val_test to report a choice that is made."),
    ] = "val_select"
    replicates: Annotated[Annotated[int, Ge(100)], Help("Bootstrap replicates.")] = 2000
    seed: Annotated[Annotated[int, Ge(0)], Help("Seed of the bootstrap.")] = 0


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of `selectkit evaluate`."""

    replicates: Annotated[Annotated[int, Ge(100)], Help("Bootstrap replicates.")] = 1000
    seed: Annotated[Annotated[int, Ge(0)], Help("Seed of the bootstrap.")] = 0
    thumbnails: Annotated[
        Annotated[int, Ge(0)],
        Help("Images shown in the report: hardest accepted errors, and deferred, each at most."),
    ] = 24
    volume: Annotated[
        Annotated[int, Ge(1)], Help("Images per day that the threshold explorer starts with.")
    ] = 1000
    error_cost: Annotated[
        Annotated[float, Gt(0)], Help("What a wrong decision costs there, in deferrals.")
    ] = 10.0


@dataclass(frozen=True)
class PlanConfig:
    """Settings of `selectkit plan`."""

    target: Annotated[
        str | None, Help("What is to be promised: error, fnr, miss_rate, fpr or false_alarm =RATE.")
    ] = None
    delta: Annotated[Rate, Help("The promise may fail with at most this probability.")] = 0.1
    prevalence: Annotated[
        Rate | None,
        Help("Without a run: share of positives among the images that will be labelled."),
    ] = None
    coverage: Annotated[
        Annotated[float, Gt(0), Le(1)] | None,
        Help("Without a run: share of them that is expected to be decided; all by default."),
    ] = None
    fractions: Annotated[
        str | None,
        Help("Without a run: shares of train,val_select,val_calib,val_test; 0.6,0.1,0.2,0.1."),
    ] = None
    true_risk: Annotated[
        Rate | None,
        Help("Without a run: true rate to plan for; a quarter, half and 3/4 of the target."),
    ] = None
    labels: Annotated[
        str | None,
        Help("Numbers of labelled images in val_calib to try, for instance 500,1000,2000."),
    ] = None
    draws: Annotated[
        Annotated[int, Ge(20), Le(10_000)],
        Help("With a run: simulated certifications for each number of labels."),
    ] = 200
    seed: Annotated[Annotated[int, Ge(0)], Help("With a run: seed of the simulation.")] = 0


@dataclass(frozen=True)
class BenchConfig:
    """Settings of `selectkit bench policies`."""

    target: Annotated[
        tuple[str, ...],
        Help(
            "What to promise, such as error=0.05 or together fnr=0.02,fpr=0.05,deferral=0.3; "
            "repeat it for several questions."
        ),
    ] = ()
    cost: Annotated[
        str | None,
        Help("Choose by cost: miss=50,false_alarm=3,defer=1 or error=20,defer=1."),
    ] = None
    delta: Annotated[Rate, Help("A promise may fail with at most this probability.")] = 0.1
    score: Annotated[
        Literal[
            "msp", "margin", "neg_entropy", "energy", "max_logit", "gate", "mahalanobis", "knn",
            "vim", "react", "residual",
        ],
        Help("Confidence that rows are accepted by, as of calibrate."),
    ] = "msp"  # fmt: skip
    positive: Annotated[
        Annotated[int, Ge(0)] | None,
        Help("For a file: code of the positive class; of two classes 1 by default."),
    ] = None
    share: Annotated[Rate, Help("Share of the rows that a re-split calibrates on.")] = 0.5
    splits: Annotated[Annotated[int, Ge(20)], Help("Random re-splits.")] = 200
    seed: Annotated[Annotated[int, Ge(0)], Help("Seed of the re-splits.")] = 0
    workers: Annotated[
        Positive | None, Help("Threads at work; by default one per core this process may use.")
    ] = None


@dataclass(frozen=True)
class RunConfig:
    """The whole configuration file; `store` and one table per command."""

    store: Annotated[str | None, Help("Feature store of the run.")] = None
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    calibrate: CalibrateConfig = field(default_factory=CalibrateConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    bench: BenchConfig = field(default_factory=BenchConfig)
