"""val_test as the policy of a run decides it, whatever kind of policy it is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.cache import Features, FeatureStore
from selectkit.errors import SelectkitError
from selectkit.pipeline.cascade import cascade_outputs
from selectkit.pipeline.evidence import Names
from selectkit.pipeline.judged import Judged
from selectkit.pipeline.measure_promises import Decided, passes
from selectkit.pipeline.measure_sets import SetsOf
from selectkit.pipeline.naming import Policy, form_of
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.strata import Strata
from selectkit.policies import CascadePolicy, ClasswisePolicy, Decision, Outputs, ScrcPolicy
from selectkit.policies.scoring import score_function
from selectkit.report.wording import about_score


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """What the rows of a split are ranked by in curves.

    Attributes:
        confidence: Shape (N,), float64, higher = accept first; -inf is never accepted.
        threshold: The policy accepts from here on; NaN when its rule is no threshold on this.
        name: What the confidence is, for axes.
        about: The same in a sentence, with what must be known to read the curve.
        tunable: Whether another threshold would be a policy of the same kind.
    """

    confidence: npt.NDArray[np.float64]
    threshold: float
    name: str
    about: str
    tunable: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """A split, what is said about it, and what the active policy decides.

    Attributes:
        run: The run.
        store: Its store.
        policy: Its policy.
        document: The policy's artifact.
        rows: Labelled rows.
        outputs: What head and calibrator say; of a cascade, those of the stage that decides.
        stages: What each stage of a cascade says; empty for other policies.
        judged: What is decided, ranked by `ranking`.
        ranking: What curves rank the rows by.
        sets: The prediction sets of a policy that has them.
        strata: Shape (N,), groups that are promised something on their own; or None.
        notes: What could not be read.
    """

    run: RunDirectory
    store: FeatureStore
    policy: Policy
    document: dict[str, Any]
    rows: Features
    outputs: Outputs
    stages: tuple[Outputs, ...]
    judged: Judged
    ranking: Ranking
    sets: SetsOf | None
    strata: Names | None
    notes: tuple[str, ...]

    @property
    def decided(self) -> Decided:
        """The rows as promises are measured on them."""
        return Decided(
            labels=self.judged.labels,
            decision=self.judged.decision,
            ids=self.rows.ids,
            groups=self.rows.groups,
            classes=self.run.head.classes,
            positive=self.run.head.positive,
            passed=None if self.sets is None else self.sets.passed,
            strata=self.strata,
        )


def judge(run: RunDirectory, store: str | Path | None = None) -> Tested:
    """Read val_test and decide it.

    Args:
        run: A calibrated run.
        store: Where the feature store is now, if it was moved.

    Returns:
        What is to be measured.

    Raises:
        ArtifactError: If an artifact is missing, damaged or belongs to another head.
        LeakageError: If the store is no longer split as it was when the head was fitted.
        DataError: If val_test has no labelled image.
    """
    cache = run.store(store)
    policy, document = run.policy()
    stages: Sequence[Outputs] = ()
    if isinstance(policy, CascadePolicy):
        rows, stages = cascade_outputs(run, document, "val_test", store)
        outputs, decision = policy.taken(stages), policy.decide(stages)
    else:
        rows, outputs = run.outputs(cache, "val_test", run.calibrator()[0])
        decision = policy.decide(outputs)
    ranking = ranking_of(policy, decision, outputs)
    names, codes = np.unique(rows.groups.astype(str), return_inverse=True)
    sets = None
    if isinstance(policy, ScrcPolicy):
        sets = SetsOf(decision.prediction_set, passes(policy, outputs), rows.y, decision.prediction)
    by_sets = sets is not None and isinstance(policy, ScrcPolicy) and policy.exits == "accepted"
    judged = Judged(
        labels=rows.y,
        probabilities=outputs.probabilities,
        decision=replace(decision, score=ranking.confidence),
        groups=None if len(names) == len(rows.y) else codes,
        positive=run.head.positive,
        classes=run.head.classes,
        outside=~sets.inside if sets is not None and by_sets else None,
    )
    strata, notes = _strata(run, cache, policy, rows)
    lacking = len(cache.rows_of(run.head.view, "val_test").ids) - len(rows.ids)
    if stages and lacking:
        notes += (f"{lacking:,} images of val_test were left out: another stage lacks them",)
    return Tested(run, cache, policy, document, rows, outputs, tuple(stages), judged, ranking,
                  sets, strata, notes)  # fmt: skip


def ranking_of(policy: Policy, decision: Decision, outputs: Outputs) -> Ranking:
    """Return what curves rank rows by, so that the policy is a point of the curve where it can be.

    Args:
        policy: The policy.
        decision: What it says about N rows.
        outputs: What it decided by; of a cascade, those of the stage that decides.

    Returns:
        The ranking.
    """
    likely = np.asarray(outputs.probabilities.max(axis=1))
    name, form = policy.score_name, form_of(policy)
    at = policy.threshold if policy.threshold > -1e300 else -inf
    if policy.infeasible is not None and form in {"two_sided", "per_class", "cascade"}:
        about = "Nothing is certified, so images are ranked by the largest probability."
        return Ranking(likely, inf, "largest probability", about, tunable=form != "cascade")
    match form:
        case "two_sided":
            name, about = "distance outside the two thresholds", (
                "Images are ranked by how far the probability of the positive class lies outside "
                "the two thresholds (0: just decided): along the curve both move alike. A deferred "
                "image counts with its most probable class."
            )  # fmt: skip
        case "per_class" if isinstance(policy, ClasswisePolicy):
            about = (
                f"Images are ranked by {about_score(name)} minus the threshold of their predicted "
                "class (0: just decided): along the curve all thresholds move alike. Of a class "
                f"that is always decided its lowest {name} here stands for the threshold; a class "
                "that is always deferred is never decided."
            )
            confidence = _over_thresholds(policy, decision, outputs)
            return Ranking(confidence, 0.0, f"{name} minus the threshold of its class", about)
        case "cascade":
            about = (
                "Images are ranked by the probability of the stage that decides them, deferred "
                "ones by that of the last stage. The cascade does not decide by one threshold on "
                "it, so the dot need not lie on the curve."
            )
            return Ranking(likely, nan, "probability of the deciding stage", about, tunable=False)
        case "scrc" if isinstance(policy, ScrcPolicy) and policy.exits == "singletons":
            if policy.infeasible is not None:
                return Ranking(decision.score, inf, policy.score, _by(policy.score))
            name, about = "distance from an exit", (
                f"Images are ranked by the smaller of two distances: {policy.score} above its "
                "threshold, and the lambda of the second class above that of the sets (0: just "
                "decided): along the curve both move alike."
            )  # fmt: skip
        case "scrc":
            about = (
                f"{_by(name)} Wrong is here an image whose most probable class is wrong; the "
                "promise is about the sets."
            )
            return Ranking(decision.score, at, name, about, tunable=False)
        case _:
            about = _by(name)
    return Ranking(decision.score, at, name, about)


def _over_thresholds(
    policy: ClasswisePolicy, decision: Decision, outputs: Outputs
) -> npt.NDArray[np.float64]:
    """Distances from the thresholds, finite also where a class is always decided."""
    distance = decision.score.copy()
    s = score_function(policy.score_name, policy.own)(outputs)
    for k in np.flatnonzero(np.asarray(policy.thresholds) < -1e300).tolist():
        of_class = decision.prediction == k
        if of_class.any():
            distance[of_class] = s[of_class] - s[of_class].min()
    return distance


def _by(score: str) -> str:
    if score == "gate":
        return (
            "Images are ranked by the trained gate, calibrated to the log-odds of a right "
            "prediction."
        )
    return f"Images are ranked by the score {about_score(score)}."


def _strata(
    run: RunDirectory, store: FeatureStore, policy: Policy, rows: Features
) -> tuple[Names | None, tuple[str, ...]]:
    """The groups with promises of their own, and why they cannot be told."""
    if not any((c.about or "").startswith("group ") for c in policy.certificates):
        return None, ()
    column = getattr(run.config.calibrate, "per_group", None)
    if not column:
        return None, ("config.toml does not say which column the promised groups stand in",)
    try:
        return Strata.of(store, column).among(rows), ()
    except (SelectkitError, OSError) as error:
        return None, (f"promises for each group could not be checked: {error}",)
