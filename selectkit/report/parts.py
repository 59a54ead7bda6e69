"""Parts of a report that tell of promises, prediction sets and stages: plain values.

N test images, K classes, S stages, M points of a front.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

Estimate: TypeAlias = tuple[float, float, float]  # value, low, high; NaN where there is none


@dataclass(frozen=True, slots=True)
class PromiseRow:
    """A promise, and what became of it on the test split.

    Attributes:
        promise: What is promised, without how sure it is.
        risk: Its name, for instance "error" or "fnr".
        about: Whom it is about, for instance "class cat"; None: everyone.
        kind: "pac", "expectation" or "none": a wish.
        limit: What the figure must not exceed; of the risk "coverage" what it must reach.
        estimate: The figure on the test split with its 95 % interval; NaN without a trial.
        events: Images that count against the promise; None where every image has a cost.
        trials: Images that the promise is about.
        unit: What these are called.
        held: Whether the figure kept the limit; None without a trial.
        verdict: The same in words, with chance taken into account.
    """

    promise: str
    risk: str
    about: str | None
    kind: str
    limit: float
    estimate: Estimate
    events: int | None
    trials: int
    unit: str
    held: bool | None
    verdict: str


@dataclass(frozen=True, slots=True)
class SizeRow:
    """Prediction sets of one size.

    Attributes:
        size: Number of classes in the set, >= 1.
        n: Images with such a set.
        inside: Those whose true class is in it.
    """

    size: int
    n: int
    inside: int


@dataclass(frozen=True, slots=True)
class ClassSets:
    """What became of the images of one class, among those that pass the score.

    Attributes:
        name: The class.
        n: Its images in the test split.
        passed: Images that pass the score; the rest of the row counts these.
        inside: Images with the true class in their set.
        singletons: Images whose set is a single class.
        wrong: Those of them whose single class is wrong.
        mean_size: Mean number of classes in a set; NaN when none passes.
    """

    name: str
    n: int
    passed: int
    inside: int
    singletons: int
    wrong: int
    mean_size: float


@dataclass(frozen=True, slots=True)
class Sets:
    """What a policy with prediction sets says.

    Attributes:
        decides: "accepted": every image that passes the score is answered with its set;
            "singletons": only those whose set is a single class are decided.
        metrics: Value and interval by name, over the images that pass the score: mean_set_size,
            set_coverage, singleton_share, singleton_error.
        sizes: By size, those that occur.
        classes: By class, perhaps not all.
        n_classes: How many classes there are.
    """

    decides: str
    metrics: Mapping[str, Estimate]
    sizes: tuple[SizeRow, ...]
    classes: tuple[ClassSets, ...]
    n_classes: int

    @property
    def passed(self) -> int:
        """Images that pass the score."""
        return sum(row.n for row in self.sizes)

    @property
    def missed(self) -> int:
        """Those of them whose true class is not in their set."""
        return sum(row.n - row.inside for row in self.sizes)


@dataclass(frozen=True, slots=True)
class StageRow:
    """What one stage of a cascade did.

    Attributes:
        name: The stage.
        rule: When it decides, for instance "msp >= 0.9"; "always" or "never".
        cost: Of every image that reaches it.
        reached: Images that no earlier stage decided.
        decided: Images that it decided.
        wrong: Wrong decisions among them.
        error: Their share with its 95 % interval; NaN when it decides nothing.
        before: Shares on val_calib: reached, decided of those, wrong of those; NaN of nothing.
    """

    name: str
    rule: str
    cost: float
    reached: int
    decided: int
    wrong: int
    error: Estimate
    before: Estimate


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """What one choice of thresholds does on val_calib.

    Attributes:
        cost: Mean cost of an image.
        risk: Rate of the first target.
        coverage: Share decided by some stage.
        certified: Whether it is certified to keep every target.
        chosen: Whether it is the policy.
    """

    cost: float
    risk: float
    coverage: float
    certified: bool
    chosen: bool


@dataclass(frozen=True, slots=True)
class Flow:
    """How the images flow through the stages of a cascade.

    Attributes:
        stages: In their order.
        n: Test images.
        unit: Of costs.
        human: Cost of an image that no stage decides; None when unknown.
        cost: Mean cost of a test image with its 95 % interval.
        risk: Name of the first target, for instance "error".
        limit: What it must not exceed.
        measured: Mean cost and the rate of the first target on the test split; NaN where undefined.
        front: Choices of thresholds that were tested, on val_calib.
    """

    stages: tuple[StageRow, ...]
    n: int
    unit: str
    human: float | None
    cost: Estimate
    risk: str
    limit: float
    measured: tuple[float, float]
    front: tuple[FrontPoint, ...]

    @property
    def deferred(self) -> int:
        """Images that no stage decides."""
        return self.n - sum(stage.decided for stage in self.stages)
