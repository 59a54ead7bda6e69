"""Finds threshold, sets and exits for the selective conformal policy."""

from dataclasses import dataclass, replace
from math import ceil
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Bools
from selectkit.errors import ConfigError
from selectkit.policies.outputs import Outputs
from selectkit.policies.sets import SETS, Float64s, Labels, entering_of, members, second_entering
from selectkit.policies.target import Target
from selectkit.risk import Certificate, Infeasible, labels_needed
from selectkit.risk.joint import joint_certificate
from selectkit.risk.scrc import scrc_t
from selectkit.risk.scrc_exits import certify_singletons
from selectkit.risk.scrc_losses import Misses
from selectkit.risk.scrc_result import SelectiveSets
from selectkit.risk.scrc_split import scrc_split_pac
from selectkit.stats import clopper_pearson_upper, dkw_lower

Variant: TypeAlias = Literal["t", "split_pac", "joint"]
Exits: TypeAlias = Literal["accepted", "singletons"]

THRESHOLDS = 8
"""How many thresholds the joint certificate chooses from."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Labelled rows, and what is to be found on them.

    Attributes:
        outputs: N rows.
        labels: Shape (N,).
        score: Shape (N,).
        sets: Rule of the sets.
        positive: The class whose rows the risk is about; None: all rows.
        risk: Name of the risk of an exit, "error" or "fnr".
        alpha: What the set loss, and the error of exits, must not exceed.
        xi: Share to accept.
        delta: Probability with which any promise with confidence may fail.
        coverage: "mean" or "pac", for the variant split_pac.
        rng: Source of the split.
    """

    outputs: Outputs
    labels: Labels
    score: Float64s
    sets: str
    positive: int | None
    risk: str
    alpha: float
    xi: float
    delta: float
    coverage: Literal["mean", "pac"]
    rng: np.random.Generator

    @property
    def counted(self) -> Bools | None:
        """The rows that the risk is about, or None for all."""
        return None if self.positive is None else np.asarray(self.labels == self.positive)

    def take(self, rows: npt.NDArray[np.int64]) -> "Calibration":
        """Return some of the rows, with what is to be found."""
        return replace(
            self,
            outputs=self.outputs.take(rows),
            labels=self.labels[rows],
            score=self.score[rows],
        )


def check_settings(
    target: Target,
    variant: str,
    sets: str,
    exits: str,
    coverage: str,
    positive: int | None,
    n_classes: int | None,
) -> None:
    """Refuse names that are unknown, and a target that sets cannot keep.

    Raises:
        ConfigError: If there is one.
    """
    for what, name, known in (
        ("variant", variant, get_args(Variant)),
        ("sets", sets, tuple(SETS)),
        ("exits", exits, get_args(Exits)),
        ("coverage", coverage, ("mean", "pac")),
    ):
        if name not in known:
            raise ConfigError(f"{what} {name!r} is unknown; known: {', '.join(known)}.")
    if target.risk not in {"error", "fnr"}:
        raise ConfigError(
            f"--target {target}: the scrc policy bounds error or fnr. Use --policy softmax."
        )
    if target.risk == "fnr" and positive is None:
        raise ConfigError(
            f"--target {target} needs to know the positive class: name it with --positive."
        )
    if positive is not None and n_classes is not None and not 0 <= positive < n_classes:
        raise ConfigError(f"the positive class {positive} is outside [0, {n_classes}).")


def find(
    data: Calibration, variant: Variant, exits: Exits
) -> tuple[SelectiveSets, tuple[Certificate, ...]] | Infeasible:
    """Find threshold and lambda, and with singletons what accepted rows with one class promise.

    The certificate of the exits takes half of delta, all of it beside variant "t", whose promises
    are on average. Lambda is the smallest that keeps both promises: sets at a larger one than the
    set loss asks for lose less.

    Args:
        data: The rows, and what is to be found.
        variant: How threshold and sets are found.
        exits: Whether everybody accepted is decided, by the set, or rows with a single class only.

    Returns:
        What was found and its certificates, the one of the exits last, whose counts are over the
        rows that the risk is about and whose coverage is the share of exits among all; or why
        nothing can be.
    """
    if exits == "singletons":
        return _exits(data, variant)
    found, _ = _sets(data, variant, data.delta)
    return found if isinstance(found, Infeasible) else (found, found.certificates)


def _exits(
    data: Calibration, variant: Variant
) -> tuple[SelectiveSets, tuple[Certificate, ...]] | Infeasible:
    level = data.delta if variant == "t" else data.delta / 2
    found, rows = _sets(data, variant, data.delta - level if level < data.delta else data.delta)
    if isinstance(found, Infeasible):
        return _with_exits(found, data, variant, level)
    selected = found.accepts(rows.score)
    counted = selected if rows.counted is None else selected & rows.counted
    second = second_entering(rows.sets, rows.outputs.probabilities)
    wrong = rows.outputs.prediction != rows.labels
    exits = certify_singletons(
        second[counted],
        wrong[counted],
        alpha=data.alpha,
        delta=level / THRESHOLDS if variant == "joint" else level,
        at_least=found.lambda2,
        risk=data.risk,
    )
    if isinstance(exits, Infeasible):
        return _scaled(exits, data, int(np.count_nonzero(counted)))
    lambda2 = float(np.nextafter(exits.threshold, -np.inf))
    larger = _larger(found, rows, lambda2)
    return larger, (*larger.certificates, _over_all(exits, selected, second, data.delta))


def _sets(
    data: Calibration, variant: Variant, delta: float
) -> tuple[SelectiveSets | Infeasible, Calibration]:
    """Threshold and sets, and the rows that a further certificate may be found on."""
    rows, selecting = data, None
    if variant == "split_pac":
        order = data.rng.permutation(len(data.score))
        half = len(order) // 2
        if not half:
            reason, needs = "one sample cannot be split", 2 * labels_needed(data.alpha, delta)
            return Infeasible(_name(data), data.alpha, delta, 1, reason, needs), data
        selecting, rows = data.score[order[half:]], data.take(np.sort(order[:half]))
    misses = Misses.of(entering_of(rows.sets, rows.outputs.probabilities, rows.labels))
    risk = _name(rows)
    if variant == "t":
        return scrc_t(
            rows.score, misses, None, rows.xi, rows.alpha, counted=rows.counted, risk=risk,
            delta=delta,
        ), rows  # fmt: skip
    if variant == "joint":
        return joint_certificate(
            rows.score, misses, None, rows.xi, rows.alpha, delta, thresholds=THRESHOLDS,
            mean_size=_mean_size(rows), counted=rows.counted, risk=risk,
        ), rows  # fmt: skip
    found = scrc_split_pac(
        rows.score, misses, None, rows.xi, rows.alpha, delta, coverage=rows.coverage,
        select_score=selecting, counted=rows.counted, risk=risk,
    )  # fmt: skip
    if isinstance(found, Infeasible) and found.needs is not None:
        found = replace(found, needs=2 * found.needs)
    return found, rows


def _name(data: Calibration) -> str:
    return f"set_{data.risk}"


def _mean_size(rows: Calibration) -> "_Sizes":
    return _Sizes(rows.sets, rows.outputs.probabilities)


@dataclass(frozen=True, slots=True, eq=False)
class _Sizes:
    """Mean number of classes in the sets of accepted rows."""

    sets: str
    probabilities: Float64s

    def __call__(self, accepted: Bools, lambda2: float) -> float:
        """Return the mean size."""
        return float(members(self.sets, self.probabilities[accepted], lambda2).sum(axis=1).mean())


def _larger(found: SelectiveSets, rows: Calibration, lambda2: float) -> SelectiveSets:
    """The same threshold with larger sets: what is promised stays true, counts become smaller."""
    selected = found.accepts(rows.score)
    if rows.counted is not None:
        selected &= rows.counted
    p = rows.outputs.probabilities[selected]
    missed = int(Misses.of(entering_of(rows.sets, p, rows.labels[selected])).total(lambda2))
    promise, selection = found.certificates
    upper = (
        (missed + 1) / (promise.n_accepted + 1)
        if promise.kind == "expectation"
        else clopper_pearson_upper(missed, promise.n_accepted, promise.delta)
    )
    return replace(
        found,
        lambda2=lambda2,
        total_loss=float(missed),
        certificates=(
            replace(promise, errors=missed, risk_upper=upper),
            replace(selection, risk="not_selected"),
        ),
    )


def _over_all(exits: Certificate, selected: Bools, second: Float64s, delta: float) -> Certificate:
    """The certificate with the coverage counted over all rows.

    The lower bound is a product of two that are uniform, in the threshold and in lambda, at half
    of the level each.
    """
    n, m = len(selected), int(np.count_nonzero(selected))
    taken = int(np.count_nonzero(second[selected] >= exits.threshold))
    lower = dkw_lower(m / n, n, delta / 2) * dkw_lower(taken / m, m, delta / (2 * THRESHOLDS))
    return replace(exits, coverage=taken / n, coverage_lower=lower)


def _with_exits(why: Infeasible, data: Calibration, variant: Variant, level: float) -> Infeasible:
    """The number that would do for the sets, raised to what exits will need at the least."""
    if why.needs is None:
        return why
    exits = labels_needed(data.alpha, level / THRESHOLDS if variant == "joint" else level)
    least = ceil((2 if variant == "split_pac" else 1) * exits / data.xi)
    return replace(why, needs=max(why.needs, least))


def _scaled(why: Infeasible, data: Calibration, m: int) -> Infeasible:
    """The number of accepted rows that would do, as a number of calibration rows."""
    counted = data.counted
    n = len(data.score) if counted is None else int(np.count_nonzero(counted))
    needs = None if why.needs is None else max(n + 1, ceil(why.needs * n / m))
    return replace(why, n=n, delta=data.delta, needs=needs)
