"""Is the convex linear head ever slower than scikit-learn, and how much faster is a whole path?

Run `python -m benchmarks.linear_head > benchmarks/results/linear_head.jsonl`. Both start from raw
float32 features; scikit-learn gets StandardScaler and LogisticRegression(lbfgs), its warm_start
along the path, and its default tolerance. Times are CPU seconds on one thread, wall seconds on two.

Validation NLL is compared with the exact optimum, found in float64, so that nobody wins by stopping
early; where scikit-learn ends more than 1e-4 away, it also runs with the largest tolerance (of
1e-5, 1e-6, ...) at which it comes as near, unless that takes minutes. Columns are either
independent on uneven scales (standardising undoes it all: the kindest case for scikit-learn) or
correlated with a falling spectrum, as features of a backbone are.
"""

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks._figures import figure, middle
from selectkit.arrays import log_softmax
from selectkit.heads import STRENGTHS
from selectkit.heads.labelled import TrainSelect
from selectkit.heads.logistic import regularisation_path
from selectkit.heads.rows import all_classes

Kind = Literal["independent", "correlated"]
PACKAGES = ("numpy", "scikit-learn", "scipy")
PATIENCE = 20.0  # seconds; what takes longer runs once


@dataclass(frozen=True)
class Problem:
    """Rows to fit on, and rows to judge by."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    x_val: npt.NDArray[np.float32]
    y_val: npt.NDArray[np.int64]
    k: int

    @classmethod
    def draw(cls, n: int, d: int, k: int, kind: Kind, n_val: int = 5000) -> "Problem":
        """Draw N rows whose labels come from a softmax of their latent factors."""
        rng = np.random.default_rng(d + k)
        latent = rng.normal(size=(n + n_val, d))
        if kind == "independent":
            spectrum = np.full(d, 3 / np.sqrt(d))
            x = latent * np.logspace(1, -1.5, d)
        else:
            spectrum = 2 * np.arange(1, d + 1) ** -0.75
            x = latent * spectrum @ np.linalg.qr(rng.normal(size=(d, d)))[0]
        z = latent @ (rng.normal(size=(d, k)) * spectrum[:, np.newaxis])
        y = (z + rng.gumbel(size=z.shape)).argmax(axis=1).astype(np.int64)
        rows = (x + rng.normal(size=d)).astype(np.float32)
        return cls(rows[:n], y[:n], rows[n:], y[n:], k)

    def nll(self, logits: npt.NDArray[Any]) -> float:
        """Mean negative log-likelihood of the judging rows."""
        return float(-log_softmax(logits)[np.arange(len(self.y_val)), self.y_val].mean())


@dataclass(frozen=True)
class Timed:
    """Seconds of one run, and the validation NLL at each strength."""

    seconds: float
    nll: tuple[float, ...]


def clock(threads: int) -> float:
    """Return CPU seconds for one thread, which busy neighbours do not change; else wall seconds."""
    return process_time() if threads == 1 else perf_counter()


def ours(
    problem: Problem, strengths: tuple[float, ...], threads: int, dtype: npt.DTypeLike = np.float32
) -> Timed:
    x = problem.x.astype(dtype)
    start = clock(threads)
    data = TrainSelect.of(x, problem.y, (problem.x_val, problem.y_val), problem.k)
    fits = list(regularisation_path(data.train, data.labels, problem.k, strengths))
    seconds = clock(threads) - start
    z = (problem.x_val - data.mean) / data.scale
    heads = (all_classes(w, b, data.present, problem.k) for _, w, b in fits)
    return Timed(seconds, tuple(problem.nll(z @ w + b) for w, b in heads))


def scikit_learn(
    problem: Problem, strengths: tuple[float, ...], threads: int, tol: float = 1e-4
) -> Timed:
    start = clock(threads)
    scaler = StandardScaler().fit(problem.x)
    x = scaler.transform(problem.x)
    model = LogisticRegression(tol=tol, max_iter=20_000, warm_start=True)
    seconds, found = clock(threads) - start, []
    x_val = scaler.transform(problem.x_val)
    for strength in strengths:
        start = clock(threads)
        model.set_params(C=(2 if problem.k == 2 else 1) / (len(x) * strength)).fit(x, problem.y)
        seconds += clock(threads) - start
        z = model.decision_function(x_val)
        found.append(problem.nll(z if problem.k > 2 else np.stack([0 * z, z], axis=1)))
    return Timed(seconds, tuple(found))


def gap(run: Timed, exact: Timed) -> float:
    return max(abs(a - b) for a, b in zip(run.nll, exact.nll, strict=True))


def as_near(
    problem: Problem, strengths: tuple[float, ...], exact: Timed, within: float
) -> float | None:
    """The largest tolerance with which scikit-learn comes as near, if that takes no minutes."""
    for tol in (1e-5, 1e-6, 1e-7):
        run = scikit_learn(problem, strengths, 1, tol)
        if gap(run, exact) <= within:
            return tol
        if run.seconds > PATIENCE:
            break
    return None


def compare(
    name: str, problem: Problem, strengths: tuple[float, ...], threads: int, repetitions: int
) -> None:
    exact = ours(problem, strengths, threads, np.float64)
    runs: dict[str, Callable[[], Timed]] = {
        "selectkit": lambda: ours(problem, strengths, threads),
        "scikit-learn": lambda: scikit_learn(problem, strengths, threads),
    }
    first = {which: run() for which, run in runs.items()}
    near = max(1e-4, gap(first["selectkit"], exact))
    if threads == 1 and gap(first["scikit-learn"], exact) > near:
        tol = as_near(problem, strengths, exact, near)
        if tol is not None:
            which = f"scikit-learn, tol = {tol:g}"
            runs[which] = lambda: scikit_learn(problem, strengths, threads, tol)
            first[which] = runs[which]()
    for which, run in first.items():
        question = f"{name}: {which}, validation NLL off the optimum by at most"
        figure(question, gap(run, exact), "nats", packages=PACKAGES)
    slow = max(run.seconds for run in first.values()) > PATIENCE
    rounds = [first]
    rounds += [{w: run() for w, run in runs.items()} for _ in range(0 if slow else repetitions - 1)]
    for which in runs:
        number, spread = middle([found[which].seconds for found in rounds])
        figure(f"{name}: {which}", number, "s", spread=spread, packages=PACKAGES)
        if which != "selectkit":
            ratios = [found[which].seconds / found["selectkit"].seconds for found in rounds]
            number, spread = middle(ratios)
            figure(f"{name}: {which} / selectkit", number, "x", spread=spread, packages=PACKAGES)


def main(repetitions: int, threads: list[int], scale: float) -> None:
    for n, d in ((100_000, 384), (20_000, 1280)):
        for k in (2, 10):
            for kind in ("independent", "correlated"):
                problem = Problem.draw(int(n * scale), d, k, kind)
                for t in threads:
                    shape = f"({len(problem.x):,} x {d}), K = {k}, {kind} columns, {t} thread"
                    shape += "s" * (t > 1)
                    for what, strengths in (
                        ("one strength 1e-3", (1e-3,)),
                        ("path of 10 strengths", STRENGTHS),
                    ):
                        with threadpool_limits(t):
                            compare(f"linear head, {what}, {shape}", problem, strengths, t,
                                    repetitions)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="sklearn")
    main(arguments.repetitions, arguments.threads, arguments.scale)
