"""What does selective conformal risk control cost beside one sort of the scores?

Run `python -m benchmarks.scrc > benchmarks/results/scrc.jsonl`.
"""

import argparse
from collections.abc import Callable
from time import process_time

import numpy as np

from benchmarks._figures import figure, middle
from selectkit.policies.sets import entering_of
from selectkit.risk import Misses, joint_certificate, scrc_split_pac, scrc_t


def main(n: int, repetitions: int) -> None:
    rng = np.random.default_rng(0)
    s = 1 / (1 + np.exp(-np.abs(rng.normal(0, 2.6, n))))
    p = np.c_[s, 1 - s]
    y = (rng.random(n) >= s).astype(np.int64)
    misses = Misses(entering_of("threshold", p, y))
    grid = np.linspace(0.5, 1, 11)
    matrix = misses.entering[:, None] > grid
    actions: dict[str, Callable[[], object]] = {
        "np.sort of the scores": lambda: np.sort(s),
        "scrc_t, every lambda": lambda: scrc_t(s, misses, xi=0.8),
        "scrc_t, 11 lambdas, boolean losses": lambda: scrc_t(s, matrix, grid, xi=0.8),
        "scrc_t, 11 lambdas, float64 losses": lambda: scrc_t(s, floats, grid, xi=0.8),
        "scrc_split_pac, every lambda": lambda: scrc_split_pac(s, misses, xi=0.8),
        "joint_certificate of 8 thresholds": lambda: joint_certificate(s, misses, xi=0.8),
    }
    floats = matrix.astype(np.float64)
    sort = 0.0
    for name, action in actions.items():
        action()
        times = []
        for _ in range(repetitions):
            start = process_time()
            action()
            times.append(process_time() - start)
        number, spread = middle(times)
        sort = sort or number
        figure(f"selective conformal risk control, n = {n:,}: {name}", number, "s", spread=spread)
        figure(f"selective conformal risk control, n = {n:,}: {name}, sorts", number / sort, "x")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    main(arguments.n, arguments.repetitions)
