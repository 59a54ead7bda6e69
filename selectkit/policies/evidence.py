"""From labelled outputs to the rows and goals of a search, for any score and any family."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selectkit.arrays import ArrayLike, class_labels
from selectkit.errors import ConfigError
from selectkit.policies.costs import Costs
from selectkit.policies.families import Rows
from selectkit.policies.guide import Guide, group_names, split_off
from selectkit.policies.outputs import Float64s, Outputs
from selectkit.policies.search import Goal
from selectkit.policies.target import POSITIVE_RISKS, Target
from selectkit.risk import Infeasible, labels_needed


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a search for the best certified rule looks at.

    Attributes:
        guide: Rows that decide what is tested.
        calib: Rows that are tested on.
        goals: What to keep; empty when only costs were given.
        rows: The labelled rows behind `calib`.
    """

    guide: Rows
    calib: Rows
    goals: tuple[Goal, ...]
    rows: Guide


def gather(
    outputs: Outputs,
    labels: ArrayLike,
    *,
    score: Callable[[Outputs], Float64s],
    targets: Sequence[Target],
    positive: int | None,
    guide: Guide | None,
    groups: ArrayLike | None,
) -> Evidence:
    """Judge the rows of the guide and of the calibration split, and name the goals.

    Args:
        outputs: N rows of the calibration split.
        labels: Shape (N,), codes in [0, K).
        score: What the rules of the family look at.
        targets: What to keep; with groups for every group on its own.
        positive: Code of the positive class, or None.
        guide: Other rows; None: a random third of the N rows.
        groups: Shape (N,), group of each row, or None.

    Returns:
        The evidence.
    """
    y = class_labels(labels, *outputs.probabilities.shape)
    rows = Guide(outputs, y, None if groups is None else group_names(groups, len(y)))
    if guide is None:
        guide, rows = split_off(rows)
    expected, counted = (
        judge(score(r.outputs), r.outputs, r.labels, positive)
        for judge, r in ((Rows.expected, guide), (Rows.counted, rows))
    )
    goals: list[Goal] = []
    for name in [None] if rows.groups is None else sorted(set(rows.groups.tolist())):
        here, there = expected, counted
        if name is not None and rows.groups is not None:
            there = counted.among(rows.groups == name)
            if guide.groups is not None and (guide.groups == name).any():
                here = expected.among(guide.groups == name)
        about = None if name is None else f"group {name}"
        goals += [Goal(target, here, there, about) for target in targets]
    return Evidence(expected, counted, tuple(goals), rows)


def check_question(
    targets: Sequence[Target],
    costs: Costs | None,
    positive: int | None,
    n_classes: int,
) -> None:
    """Refuse what no policy with one delta for several promises can answer.

    Args:
        targets: What to keep.
        costs: What to choose by.
        positive: Code of the positive class, or None.
        n_classes: K.

    Raises:
        ConfigError: If neither targets nor costs are given, coverage is among several targets, or
            the positive class is missing or unknown, or the costs are those of two classes.
    """
    if not targets and costs is None:
        raise ConfigError("no target: say what to keep (fnr=0.02,fpr=0.05) or what errors cost.")
    if any(t.risk == "coverage" for t in targets):
        raise ConfigError(
            "coverage=RATE promises nothing and stands alone. Ask for deferral=RATE to certify "
            "that at most this share is deferred."
        )
    about_positives = [str(t) for t in targets if t.risk in POSITIVE_RISKS]
    if positive is None and about_positives:
        raise ConfigError(
            f"--target {about_positives[0]} needs to know the positive class: name it with "
            "--positive."
        )
    if positive is not None and not 0 <= positive < n_classes:
        raise ConfigError(f"the positive class {positive} is outside [0, {n_classes}).")
    if costs is not None and costs.error is None and (n_classes > 2 or positive is None):
        raise ConfigError(
            f"--cost {costs}: miss and false_alarm are for two classes, one of them named with "
            "--positive; otherwise say --cost error=20,defer=1."
        )


def too_few(targets: Sequence[Target], delta: float) -> Infeasible:
    """The answer for a single row without a guide: nothing can be both searched and certified."""
    if not targets:
        return Infeasible("cost", 1.0, delta, 1, "1 sample in the calibration split", None)
    needs = max(labels_needed(t.alpha, delta) for t in targets)
    first = targets[0]
    return Infeasible(first.risk, first.alpha, delta, 1, "1 sample in the calibration split", needs)
