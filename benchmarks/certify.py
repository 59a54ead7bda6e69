"""What do certified thresholds cost and reach, beside an empirical threshold and a single start?

Run `python -m benchmarks.certify > benchmarks/results/certify.jsonl`. The model: 1 - confidence is
uniform and errors occur with chance c0 + c u^2, so that the true selective risk is alpha at
coverage 0.757. "Single start" tests every score from the first testable count on.
"""

import argparse
from collections.abc import Callable
from time import process_time

import numpy as np
import numpy.typing as npt

from benchmarks._figures import figure, middle
from selectkit.risk import Certificate, certify_threshold, labels_needed
from selectkit.stats import binomial_pvalue

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rule = Callable[[Floats, Bools, float], float]
ORACLE = 0.757


def selectkit(s: Floats, wrong: Bools, alpha: float) -> float:
    found = certify_threshold(s, wrong, alpha=alpha, delta=0.1)
    return found.threshold if isinstance(found, Certificate) else np.inf


def single_start(s: Floats, wrong: Bools, alpha: float) -> float:
    order = np.argsort(-s)
    first = labels_needed(alpha, 0.1)
    n = np.arange(1, len(s) + 1)[first - 1 :]
    failed = binomial_pvalue(np.cumsum(wrong[order], dtype=np.int64)[first - 1 :], n, alpha) > 0.1
    passed = int(np.argmax(failed)) if failed.any() else len(n)
    return float(s[order[first + passed - 2]]) if passed else np.inf


def empirical(s: Floats, wrong: Bools, alpha: float) -> float:
    order = np.argsort(-s)
    fits = np.flatnonzero(np.cumsum(wrong[order]) <= alpha * np.arange(1, len(s) + 1))
    return float(s[order[fits[-1]]]) if fits.size else np.inf


def promises(rule: Rule, name: str, alpha: float, n: int, noise: float, runs: int) -> None:
    rng = np.random.default_rng(0)
    floor = noise * alpha
    slope = 3 * (alpha - floor) / ORACLE**2
    reached = np.empty(runs)
    for i in range(runs):
        u = rng.random(n)
        wrong = rng.random(n) < floor + slope * u**2
        reached[i] = np.clip(1 - rule(1 - u, wrong, alpha), 0, 1)
    risk = floor + slope * reached**2 / 3
    setting = f"alpha {alpha}, delta 0.1, n = {n}, label noise {floor:g}: {name}"
    figure(f"mean coverage, {setting}", float(reached.mean()), "fraction")
    figure(f"gives up, {setting}", float((reached == 0).mean()), "fraction")
    broken = (reached > 0) & (risk > alpha)
    figure(f"promise broken, {setting}", float(broken.mean()), "fraction")


def speed(n: int, repetitions: int) -> None:
    rng = np.random.default_rng(0)
    u = rng.random(n)
    s, wrong = 1 - u, rng.random(n) < 0.2618 * u**2
    actions: dict[str, Callable[[], object]] = {
        "selectkit": lambda: selectkit(s, wrong, 0.05),
        "argsort": lambda: np.argsort(s),
    }
    for name, action in actions.items():
        times = []
        for _ in range(repetitions):
            start = process_time()
            action()
            times.append(process_time() - start)
        number, spread = middle(times)
        figure(f"certified threshold, n = {n:,}: {name}", number, "s", spread=spread)


def main(runs: int, repetitions: int) -> None:
    speed(1_000_000, repetitions)
    rules = {"selectkit": selectkit, "single start": single_start, "empirical": empirical}
    for alpha in (0.02, 0.05):
        for n in (359, 1000):
            for noise in (0.0, 0.2, 0.4):
                for name, rule in rules.items():
                    promises(rule, name, alpha, n, noise, runs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="calibration splits per setting")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.runs, arguments.repetitions)
