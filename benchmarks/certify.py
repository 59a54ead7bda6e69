"""What do certified thresholds cost and reach, beside an empirical threshold and a single start?

Run `python -m benchmarks.certify > benchmarks/results/certify.jsonl`. The model: 1 - confidence is
uniform and errors occur with chance c0 + c u^2, so that the true selective risk is alpha at
coverage 0.757. "Single start" tests every score from the first testable count on. MAPIE takes part
where it is installed: its Learn-then-Test on the precision of "accept", over its default grid of
100 thresholds, with Holm's correction (the default).
"""

import argparse
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from time import process_time
from tracemalloc import get_traced_memory, start, stop

import numpy as np
import numpy.typing as npt

from benchmarks._figures import figure, middle
from selectkit.risk import Certificate, certify_threshold, crc_threshold, labels_needed, sgr
from selectkit.stats import binomial_pvalue, wsr_pvalues, wsr_uppers

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


def binary_search(s: Floats, wrong: Bools, alpha: float) -> float:
    found = sgr(s, wrong, alpha=alpha, delta=0.1)
    return found.threshold if isinstance(found, Certificate) else np.inf


def mapie(s: Floats, wrong: Bools, alpha: float) -> float:
    controller = import_module("mapie.risk_control").BinaryClassificationController(
        predict_function=lambda x: np.column_stack([1 - x[:, 0], x[:, 0]]),
        risk="precision",
        target_level=1 - alpha,
        confidence_level=0.9,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        controller.calibrate(s[:, None], (~wrong).astype(int))
    best = controller.best_predict_param
    return np.inf if best is None else float(best)


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
    versions = used(name)
    figure(f"mean coverage, {setting}", float(reached.mean()), "fraction", packages=versions)
    figure(f"gives up, {setting}", float((reached == 0).mean()), "fraction", packages=versions)
    broken = (reached > 0) & (risk > alpha)
    figure(f"promise broken, {setting}", float(broken.mean()), "fraction", packages=versions)


def speed(n: int, repetitions: int) -> None:
    rng = np.random.default_rng(0)
    u = rng.random(n)
    s, wrong = 1 - u, rng.random(n) < 0.2618 * u**2
    ones = np.ones(n)
    actions: dict[str, Callable[[], object]] = {
        "selectkit": lambda: selectkit(s, wrong, 0.05),
        "selectkit, loss as numbers": lambda: certify_threshold(s, wrong * ones, alpha=0.05),
        "selectkit, miss rate": lambda: certify_threshold(s, wrong, alpha=0.05, denominator="all"),
        "conformal risk control": lambda: crc_threshold(s, wrong, alpha=0.05),
        "sort": lambda: np.sort(s),
        "argsort": lambda: np.argsort(s),
    }
    if find_spec("mapie"):
        actions["MAPIE, 100 thresholds, Holm"] = lambda: mapie(s, wrong, 0.05)
    taken = {name: middle(cpu(action, repetitions)) for name, action in actions.items()}
    for name, (number, spread) in taken.items():
        figure(
            f"certified threshold, n = {n:,}: {name}",
            number,
            "s",
            spread=spread,
            packages=used(name),
        )
    ratio = taken["selectkit"][0] / taken["sort"][0]
    figure(f"certified threshold, n = {n:,}: selectkit / one sort of the scores", ratio, "x")
    for name in ("selectkit", "conformal risk control", "MAPIE, 100 thresholds, Holm"):
        if name in actions:
            figure(f"extra memory, n = {n:,}: {name}", memory(actions[name]) / 1e6, "MB")


def betting(repetitions: int) -> None:
    rng = np.random.default_rng(0)
    u = rng.random(10_000)
    loss = 0.3 * u**2 * rng.random(10_000)
    many = rng.beta(2, 98, (10_000, 1000))
    grid = np.linspace(0, 1, 1000)
    actions: dict[str, Callable[[], object]] = {
        "1,000 p-values": lambda: wsr_pvalues(many, 0.05, rng),
        "1,000 upper bounds": lambda: wsr_uppers(many, 0.1, rng),
        "threshold, 1,000 candidates": lambda: certify_threshold(
            1 - u, loss, alpha=0.06, candidates=grid
        ),
        "threshold, all scores": lambda: certify_threshold(1 - u, loss, alpha=0.06),
    }
    for name, action in actions.items():
        number, spread = middle(cpu(action, repetitions))
        figure(f"betting (WSR), n = 10,000: {name}", number, "s", spread=spread)


def used(name: str) -> tuple[str, ...]:
    """Packages whose versions matter for a figure."""
    return ("numpy", "scipy", "mapie") if name.startswith("MAPIE") else ("numpy", "scipy")


def cpu(action: Callable[[], object], repetitions: int) -> list[float]:
    times = []
    for _ in range(repetitions):
        begun = process_time()
        action()
        times.append(process_time() - begun)
    return times


def memory(action: Callable[[], object]) -> int:
    start()
    action()
    peak = get_traced_memory()[1]
    stop()
    return peak


def main(runs: int, repetitions: int) -> None:
    speed(1_000_000, repetitions)
    betting(repetitions)
    rules: dict[str, Rule] = {
        "selectkit": selectkit,
        "single start": single_start,
        "SGR": binary_search,
        "empirical": empirical,
    }
    if find_spec("mapie"):
        rules["MAPIE, Holm"] = mapie
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
