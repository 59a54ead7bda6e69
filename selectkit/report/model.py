"""What the report of one run is made of: plain values and arrays over the test split.

The evaluation step fills a `RunReport`; nothing here knows a store, a head or a policy. Sizes are
N test samples, K classes, G points of the curve, M bins of the reliability diagram.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self, TypeAlias

import numpy as np

from selectkit.arrays import Bools, Floats, Ints, class_labels
from selectkit.errors import DataError
from selectkit.metrics import ReliabilityBins
from selectkit.report.parts import Estimate, Flow, PromiseRow, Sets

Promise: TypeAlias = Literal["pac", "expectation", "none", "infeasible"]


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One line of the policy table, measured on the test split.

    Attributes:
        policy: Name, for instance "softmax (msp)".
        coverage: Accepted share of the N samples with its 95 % interval, in [0, 1].
        error: Error rate among the accepted with its 95 % interval; NaN when none is accepted.
        deferred: Number of samples handed on.
        bound: What is certified, as text, for instance "error <= 2 % (confidence 90 %)".
        active: Whether this is the policy that the arrays of the report describe.
        cost: Mean cost of a sample with its 95 % interval; None when no costs are known.
    """

    policy: str
    coverage: Estimate
    error: Estimate
    deferred: int
    bound: str
    active: bool = False
    cost: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """Risk against coverage with a pointwise 95 % band, along a grid of coverages.

    Attributes:
        coverage: Shape (G,), ascending, in (0, 1].
        risk: Shape (G,), in [0, 1].
        low: Shape (G,), lower end of the band; NaN where unknown.
        high: Shape (G,), upper end of the band; NaN where unknown.
        point: Coverage and risk at which the active policy works; None when it accepts nothing.
        limit: The target for this risk, drawn as a line; None when the target is another risk.
        label: Name of the risk, the label of the axis.
    """

    coverage: Floats
    risk: Floats
    low: Floats
    high: Floats
    point: tuple[float, float] | None = None
    limit: float | None = None
    label: str = "Error among decided"

    def __post_init__(self) -> None:
        """Refuse arrays of different lengths."""
        _same_length("curve", coverage=self.coverage, risk=self.risk, low=self.low, high=self.high)


@dataclass(frozen=True, slots=True)
class Reliability:
    """Top-label reliability: how often the predicted class is right, per bin of its probability.

    Attributes:
        low: Shape (M,), lower edge per bin, in [0, 1].
        high: Shape (M,), upper edge per bin, in [0, 1].
        confidence: Shape (M,), mean top probability per bin; ignored where count is 0.
        accuracy: Shape (M,), share of right predictions per bin; ignored where count is 0.
        count: Shape (M,), samples per bin. Empty bins may be left out.
        ece: Expected calibration error over these bins.
        null_level: The ECE to expect from N samples if the probabilities were perfect; NaN when
            not computed.
        smooth: Probabilities and how often the prediction was right there, smoothed by a kernel,
            each of shape (S,); None when not computed.
        smooth_error: The smooth calibration error; NaN when not computed.
    """

    low: Floats
    high: Floats
    confidence: Floats
    accuracy: Floats
    count: Ints
    ece: float
    null_level: float
    smooth: tuple[Floats, Floats] | None = None
    smooth_error: float = float("nan")

    def __post_init__(self) -> None:
        """Refuse arrays of different lengths."""
        _same_length(
            "reliability",
            low=self.low,
            high=self.high,
            confidence=self.confidence,
            accuracy=self.accuracy,
            count=self.count,
        )

    @classmethod
    def of(cls, bins: ReliabilityBins, null_level: float) -> Self:
        """Return the diagram of measured bins.

        Args:
            bins: From `selectkit.metrics.reliability_bins`.
            null_level: From `selectkit.metrics.ece_null_level`, or NaN.

        Returns:
            The bins with their ECE and its null level.
        """
        return cls(
            bins.low, bins.high, bins.confidence, bins.accuracy, bins.count, bins.ece, null_level
        )


@dataclass(frozen=True, slots=True)
class GroupRow:
    """What the active policy did with the images of one group.

    Attributes:
        name: The group.
        n: Images.
        accepted: Images decided.
        wrong: Wrong decisions.
        positives: Images of the positive class that were decided; 0 when there is none.
        missed: Those of them that were missed.
    """

    name: str
    n: int
    accepted: int
    wrong: int
    positives: int
    missed: int


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One picture with its caption.

    Attributes:
        id: Sample id.
        image: A small PNG or JPEG file as bytes, or None when the image cannot be read.
        label: Name of the true class.
        prediction: Name of the predicted class.
        confidence: Score of the sample.
        note: A few words more, for instance the group; may be empty.
    """

    id: str
    image: bytes | None
    label: str
    prediction: str
    confidence: float
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Everything that the page of one run shows.

    Attributes:
        title: Heading of the page.
        run: Name of the run.
        created: When the run was evaluated, as text.
        target: The asked target, as text, for instance "error <= 2 %, confidence 90 %".
        promise: Kind of the certificate: "pac" (with confidence 1 - delta), "expectation" (on
            average), "none" (nothing is promised) or "infeasible" (asked, not certifiable).
        certificate: Sentences that state the promise, the first one for a reader in a hurry.
        policies: Rows of the policy table; at most one is active.
        metrics: Value and 95 % interval by metric name, in the order of the table.
        classes: K class names.
        positive: Index of the positive class, None when there is none.
        labels: Shape (N,), integers in [0, K).
        predictions: Shape (N,), integers in [0, K).
        confidence: Shape (N,), higher = accept first; -inf means "always defer".
        accepted: Shape (N,), True where the active policy decides.
        threshold: Accept iff confidence >= threshold; may be infinite; NaN when the policy has
            no single threshold.
        score: Name of the score, for instance "msp".
        curve: Risk against coverage, None to leave the figure out.
        reliability: Reliability bins, None to leave the figure out.
        errors: The most confident accepted errors, worst first.
        deferrals: Examples of deferred samples.
        provenance: Hashes, versions, counts, by name.
        commands: Shell commands that reproduce the run.
        warnings: What the reader must know before trusting the page.
        split: Name of the split that the arrays come from.
        group: Shape (N,), which images belong together; None when every image is its own group.
        groups: Rows of the table of groups, perhaps not all.
        n_groups: How many groups there are.
        volume: Images per day that the threshold explorer starts with.
        error_cost: What a wrong decision costs there, in deferrals, where `costs` are not known.
        costs: What the policy was chosen by: miss and false_alarm, or error, and defer, by name.
        promises: What became of each promise on the split.
        ranked_by: A sentence that says what `confidence` is; empty when `score` says it all.
        tunable: Whether another threshold on `confidence` would be a policy of the same kind.
        sets: Prediction sets, of a policy that has them.
        flow: What each stage did, of a cascade.
    """

    title: str
    run: str
    created: str
    target: str
    promise: Promise
    certificate: tuple[str, ...]
    policies: tuple[PolicyRow, ...]
    metrics: Mapping[str, Estimate]
    classes: tuple[str, ...]
    positive: int | None
    labels: Ints
    predictions: Ints
    confidence: Floats
    accepted: Bools
    threshold: float
    score: str
    curve: Curve | None = None
    reliability: Reliability | None = None
    errors: tuple[Thumbnail, ...] = ()
    deferrals: tuple[Thumbnail, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    split: str = "val_test"
    group: Ints | None = None
    groups: tuple[GroupRow, ...] = ()
    n_groups: int = 0
    volume: int = 1000
    error_cost: float = 10.0
    costs: Mapping[str, float] | None = None
    promises: tuple[PromiseRow, ...] = ()
    ranked_by: str = ""
    tunable: bool = True
    sets: Sets | None = None
    flow: Flow | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit each other."""
        n, k = len(self.labels), len(self.classes)
        class_labels(self.labels, n, k)
        class_labels(self.predictions, n, k)
        _same_length(
            "report",
            labels=self.labels,
            predictions=self.predictions,
            confidence=self.confidence,
            accepted=self.accepted,
        )
        if self.accepted.dtype != np.bool_:
            raise DataError(f"accepted must be boolean, got dtype {self.accepted.dtype}.")
        if self.positive is not None and not 0 <= self.positive < k:
            raise DataError(f"positive is {self.positive}, but there are {k} classes.")

    @property
    def correct(self) -> Bools:
        """Shape (N,): where the prediction equals the label."""
        return np.asarray(self.predictions == self.labels, dtype=np.bool_)

    @property
    def answers_with_sets(self) -> bool:
        """Whether accepted samples get a set of classes, so that "wrong" is about sets."""
        return self.sets is not None and self.sets.decides == "accepted"

    @property
    def active(self) -> PolicyRow | None:
        """The row of the policy that the arrays describe."""
        return next((row for row in self.policies if row.active), None)


def _same_length(what: str, **arrays: Floats | Ints | Bools) -> None:
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise DataError(f"arrays of the {what} must have one shape (N,), got {shapes}.")
