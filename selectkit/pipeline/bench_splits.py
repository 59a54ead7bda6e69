"""Repeated random re-splits: calibrate on one part, judge on the other part and on everybody."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import thread_time
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Bools
from selectkit.pipeline.bench_contenders import STORED, Contender, Fitted, Promise
from selectkit.pipeline.bench_rows import Float64s, Labels, Population
from selectkit.policies import Costs, Decision, Outputs, ScrcPolicy, StageCosts

Watch = Callable[[int, int], None]
"""Called with re-splits done and re-splits in all."""


class Trial(NamedTuple):
    """What came of one contender on one re-split; rates are NaN where there is nothing to count.

    Attributes:
        seconds: Processor time of the fit.
        coverage: Accepted share of the test part.
        error: Wrong decisions among its accepted rows.
        fnr: Missed positives among its accepted positives.
        cost: Mean cost of its rows: of the decisions, or of the stages that they reach.
        size: Mean number of classes in the sets of its accepted rows.
        risk: The first promise's risk on all rows; of several classes the worst.
        risk_test: The same on the test part.
        slack: The reported bound of that risk, less the risk on all rows.
        broken: 1 if a promise does not hold on all rows, 0 if all do.
        broken_test: The same on the test part.
    """

    seconds: float
    coverage: float
    error: float
    fnr: float
    cost: float
    size: float
    risk: float
    risk_test: float
    slack: float
    broken: float
    broken_test: float


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """Judges decisions about a population.

    Attributes:
        rows: The population.
        costs: What decisions cost, or None.
    """

    rows: Population
    costs: Costs | None

    def trial(self, contender: Contender, fitted: Fitted | None, test: Bools, took: float) -> Trial:
        """Return what came of one re-split.

        Args:
            contender: Who made the rule.
            fitted: The rule; None: everything is deferred and nothing is promised.
            test: Shape (N,): the rows of the test part.
            took: Seconds that the fit took.

        Returns:
            The rates.
        """
        nan = float("nan")
        if fitted is None:
            return Trial(took, 0.0, nan, nan, self.of_deferring(contender), *[nan] * 6)
        decision = fitted.policy.decide(cast(Any, self.rows.seen(contender.sees)))
        case = _Case(self, fitted, decision)
        rates = [(p, case.rate(p), case.rate(p, test)) for p in fitted.promises]
        counted = [r for r in rates if r[0].kind == "pac"] or rates[:1]
        same = [r for r in rates if r[0].risk == rates[0][0].risk]
        first, risk, risk_test = max(same, key=lambda r: (not np.isnan(r[1]), r[1] - r[0].alpha))
        accepted = decision.accepted & test
        sizes = decision.prediction_set[accepted].sum(axis=1) if contender.sets else np.empty(0)
        with_positive = self.rows.positive is not None
        return Trial(
            seconds=took,
            coverage=float(accepted.sum() / test.sum()),
            error=case.rate(Promise("error", 1.0, ""), test),
            fnr=case.rate(Promise("fnr", 1.0, ""), test) if with_positive else nan,
            cost=self.cost_of(decision, test, contender),
            size=float(sizes.mean()) if sizes.size else nan,
            risk=risk,
            risk_test=risk_test,
            slack=nan if first.upper is None else first.upper - risk,
            broken=float(any(r > p.alpha for p, r, _ in counted)),
            broken_test=float(any(t > p.alpha for p, _, t in counted)),
        )

    def cost_of(self, decision: Decision, rows: Bools, contender: Contender) -> float:
        """Return the mean cost of some rows; NaN where nothing has a price."""
        prices = self._prices(contender)
        if self.costs is not None:
            spent = self.costs.of(decision, self.rows.labels, self.rows.positive or 0)
        elif prices is not None:
            spent = prices.of(decision)
        else:
            return float("nan")
        return float(spent[rows].mean())

    def of_deferring(self, contender: Contender) -> float:
        """Return what a row costs that is deferred by a contender who gave up."""
        prices = self._prices(contender)
        if self.costs is not None:
            return self.costs.defer
        if prices is None:
            return float("nan")
        reached = prices.stages if contender.sees == "stages" else prices.stages[:1]
        return sum(reached) + (prices.human or 0.0)

    def _prices(self, contender: Contender) -> StageCosts | None:
        """What the stages that a contender runs cost."""
        staged = self.rows.staged
        if staged is None or not staged.about.priced:
            return None
        costs = staged.about.costs
        if contender.sees == "last stage":
            return StageCosts(costs.stages[-1:], costs.human, costs.unit)
        return costs


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """One rule's decisions about everybody."""

    judge: Judge
    fitted: Fitted
    decision: Decision

    def rate(self, promise: Promise, rows: Bools | None = None) -> float:
        """The rate that a promise is about, NaN when it is about no row."""
        bad, among = self._counted(promise)
        if rows is not None:
            among = among & rows
        n = int(np.count_nonzero(among))
        return float(bad[among].sum()) / n if n else float("nan")

    def _counted(self, promise: Promise) -> tuple[npt.NDArray[np.float64 | np.bool_], Bools]:
        """What counts against the promise, and the rows that it is about."""
        d, y, positive = self.decision, self.judge.rows.labels, self.judge.rows.positive
        everybody = np.ones(len(y), dtype=np.bool_)
        wrong = d.prediction != y
        match promise.risk:
            case "error":
                bad, among = wrong, d.accepted
            case "fnr":
                bad, among = wrong, d.accepted & (y == positive)
            case "miss_rate":
                bad, among = wrong & d.accepted, y == positive
            case "fpr":
                bad, among = d.prediction == positive, d.accepted & (y != positive)
            case "false_alarm":
                bad, among = (d.prediction == positive) & d.accepted, y != positive
            case "deferral":
                bad, among = ~d.accepted, everybody
            case "not_selected":
                bad, among = ~self._selected(), everybody
            case "set_error":
                bad, among = ~d.prediction_set[np.arange(len(y)), y], self._selected()
            case "set_fnr":
                bad = ~d.prediction_set[np.arange(len(y)), y]
                among = self._selected() & (y == positive)
            case "cost":
                bad, among = self._costs(), everybody
            case _:
                raise ValueError(f"no rate is called {promise.risk!r}")
        if promise.predicted is not None:
            among = among & (d.prediction == promise.predicted)
        return bad, among

    def _selected(self) -> Bools:
        """Rows that pass lambda1, with a single class or not."""
        policy = self.fitted.policy
        if isinstance(policy, ScrcPolicy):
            return np.asarray(STORED(self.judge.rows.outputs) > policy.lambda1)
        return self.decision.accepted

    def _costs(self) -> Float64s:
        costs = self.judge.costs
        assert costs is not None  # nobody promises a cost otherwise
        spent = costs.of(self.decision, self.judge.rows.labels, self.judge.rows.positive or 0)
        return spent / costs.largest


def resplit(
    rows: Population,
    questions: Sequence[tuple[Sequence[Contender], Costs | None]],
    *,
    n_calib: int,
    splits: int,
    seed: int,
    workers: int,
    watch: Watch | None = None,
) -> list[list[npt.NDArray[np.float64]]]:
    """Let every contender of every question answer it on the same random re-splits.

    Each re-split has random numbers of its own, so the answer depends on the seed and not on the
    number of workers; only the times do.

    Args:
        rows: The population.
        questions: Contenders, and what decisions cost.
        n_calib: Rows of the calibration part.
        splits: Re-splits.
        seed: Seed.
        workers: Threads; sorting and counting lets others run.
        watch: Called after every re-split.

    Returns:
        For each question and contender an array of shape (splits, fields of `Trial`).
    """
    n = len(rows)
    asked_for = {contender.sees for asked, _ in questions for contender in asked}

    def one(own_seed: np.random.SeedSequence) -> list[list[Trial]]:
        test = np.ones(n, dtype=np.bool_)
        calib = np.sort(np.random.default_rng(own_seed).permutation(n)[:n_calib])
        test[calib] = False
        seen = {sees: _taken(rows.seen(sees), calib) for sees in asked_for}
        return [
            [_answer(Judge(rows, costs), c, seen[c.sees], rows.labels[calib], test) for c in asked]
            for asked, costs in questions
        ]

    found: list[list[list[Trial]]] = []
    with ThreadPoolExecutor(workers) as pool:
        try:
            for trials in pool.map(one, np.random.SeedSequence(seed).spawn(splits)):
                found.append(trials)
                if watch is not None:
                    watch(len(found), splits)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [
        [np.array([split[q][c] for split in found]) for c in range(len(asked))]
        for q, (asked, _) in enumerate(questions)
    ]


def _taken(outputs: Outputs | tuple[Outputs, ...], rows: Labels) -> Outputs | tuple[Outputs, ...]:
    if isinstance(outputs, tuple):
        return tuple(said.take(rows) for said in outputs)
    return outputs.take(rows)


def _answer(
    judge: Judge,
    contender: Contender,
    seen: Outputs | tuple[Outputs, ...],
    labels: Labels,
    test: Bools,
) -> Trial:
    start = thread_time()
    fitted = contender.fit(seen, labels)
    return judge.trial(contender, fitted, test, thread_time() - start)
