"""Are the metrics as fast as plain numpy written for the purpose?

Run `python -m benchmarks.metrics > benchmarks/results/metrics.jsonl`. The floor of the areas is one
argsort; the floor of the bootstrap re-evaluates the presorted sample on drawn and sorted ranks, and
the naive loop sorts every resample. All times are CPU seconds of one process.
"""

import argparse
from collections.abc import Callable, Mapping
from time import process_time

import numpy as np
import numpy.typing as npt

from benchmarks._figures import figure, middle
from selectkit.metrics import augrc, aurc, bootstrap, ece, ece_null_level, smooth_ece

Floats = npt.NDArray[np.float64]


def plain_areas(s: Floats, e: Floats) -> tuple[float, float]:
    """AURC and AUGRC without regard to ties, one argsort."""
    lost = np.cumsum(e[np.argsort(-s)])
    k = np.arange(1, len(s) + 1)
    return float((lost / k).mean()), float(lost.mean() / len(s))


def naive_bootstrap(s: Floats, e: Floats, replicates: int, rng: np.random.Generator) -> Floats:
    draws = (rng.integers(0, len(s), len(s)) for _ in range(replicates))
    areas = [plain_areas(s[i], e[i]) for i in draws]
    return np.asarray(np.quantile(areas, [0.025, 0.975], axis=0))


def presorted_bootstrap(s: Floats, e: Floats, replicates: int, rng: np.random.Generator) -> Floats:
    ordered, n = e[np.argsort(-s)], len(s)
    k = np.arange(1, n + 1)
    areas = []
    for _ in range(replicates):
        lost = np.cumsum(ordered[np.sort(rng.integers(0, n, n))])
        areas.append(((lost / k).mean(), lost.mean() / n))
    return np.asarray(np.quantile(areas, [0.025, 0.975], axis=0))


def plain_ece(p: Floats, y: npt.NDArray[np.int64]) -> float:
    guess = p.argmax(axis=1)
    confidence = p[np.arange(len(p)), guess]
    index = np.minimum((confidence * 15).astype(np.int64), 14)
    return float(abs(np.bincount(index, confidence - (guess == y), 15)).sum() / len(p))


def in_turn(
    actions: Mapping[str, Callable[[], object]], repetitions: int
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repetitions + 1):
        for name, action in actions.items():
            start = process_time()
            action()
            times[name].append(process_time() - start)
    return {name: found[1:] for name, found in times.items()}


def report(question: str, actions: Mapping[str, Callable[[], object]], repetitions: int) -> None:
    times = in_turn(actions, repetitions)
    ours = times["selectkit"]
    for name, found in times.items():
        number, spread = middle(found)
        figure(f"{question}: {name}", number, "s", spread=spread)
        if name != "selectkit":
            number, spread = middle([a / b for a, b in zip(ours, found, strict=True)])
            figure(f"{question}: selectkit / {name}", number, "x", spread=spread)


def sample(n: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(n)
    s = rng.random(n)
    return s, (rng.random(n) < 0.05 + 0.4 * (1 - s) ** 2).astype(float)


def main(n: int, repetitions: int) -> None:
    s, e = sample(n)
    report(
        f"AURC and AUGRC, n = {n:,}",
        {
            "selectkit": lambda: (aurc(s, e), augrc(s, e)),
            "one argsort": lambda: np.argsort(-s),
            "plain numpy": lambda: plain_areas(s, e),
        },
        repetitions,
    )
    for size, replicates in ((n // 100, 1000), (n // 10, 100)):
        report_bootstrap(size, replicates, repetitions)
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.full(10, 0.3), n), rng.integers(0, 10, n)
    report(
        f"ECE-15, n = {n:,}, K = 10",
        {"selectkit": lambda: ece(p, y), "plain numpy": lambda: plain_ece(p, y)},
        repetitions,
    )
    report(f"smooth ECE, n = {n:,}, K = 10", {"selectkit": lambda: smooth_ece(p, y)}, repetitions)
    top = p.max(axis=1)
    report(
        f"null level of ECE-15, n = {n:,}", {"selectkit": lambda: ece_null_level(top)}, repetitions
    )


def report_bootstrap(n: int, replicates: int, repetitions: int) -> None:
    s, e = sample(n)
    rng = np.random.default_rng(0)
    report(
        f"bootstrap of AURC and AUGRC, {replicates} replicates, n = {n:,}",
        {
            "selectkit": lambda: bootstrap(
                ["aurc", "augrc"], s, e, n_replicates=replicates, rng=rng
            ),
            "presorted numpy": lambda: presorted_bootstrap(s, e, replicates, rng),
            "naive numpy": lambda: naive_bootstrap(s, e, replicates, rng),
        },
        repetitions,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1_000_000, help="samples of the largest problem")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.n, arguments.repetitions)
