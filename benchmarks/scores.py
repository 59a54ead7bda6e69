"""What does a fitted score cost, beside the matrix products that it cannot do without?

Run `python -m benchmarks.scores > benchmarks/results/scores.jsonl`. Features are float32 of N rows
and D columns with a falling spectrum. The floor of a fit is the product X'X of its rows in float64
(of knn: reading them), the floor of an answer the product of the rows with the score's matrix. All
times are CPU seconds on one thread.
"""

import argparse
from collections.abc import Callable
from time import process_time

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from benchmarks._figures import figure, middle
from selectkit.arrays import softmax
from selectkit.neighbours import nearest
from selectkit.policies import FITTED, Outputs, TrainRows

K = 10
PACKAGES = ("numpy", "scipy", "scikit-learn")


def seconds(action: Callable[[], object], repetitions: int) -> list[float]:
    times = []
    for _ in range(repetitions + 1):
        start = process_time()
        action()
        times.append(process_time() - start)
    return times[1:]


def report(question: str, action: Callable[[], object], repetitions: int) -> None:
    number, spread = middle(seconds(action, repetitions))
    figure(question, number, "s", spread=spread, packages=PACKAGES)


def main(n: int, d: int, repetitions: int) -> None:
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, d + 1) ** -0.5
    x = (rng.normal(size=(n, d)) * spectrum @ np.linalg.qr(rng.normal(size=(d, d)))[0]).astype(
        np.float32
    )
    w, b = rng.normal(size=(d, K)), rng.normal(size=K)

    def logits(rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        return np.asarray(rows @ w + b)

    z = logits(x)
    train = TrainRows(x, z.argmax(axis=1), z, (w, b))
    some = x[: n // 5]
    outputs = Outputs(z[: n // 5], softmax(z[: n // 5]), some, head=logits)
    shape = f"({n:,} x {d})"
    wide = x.astype(np.float64)
    report(f"floor of fits, X'X in float64, {shape}", lambda: wide.T @ wide, repetitions)
    asked = f"({len(some):,} x {d})"
    square = rng.normal(size=(d, d))
    report(
        f"floor of answers, X A in float64, {asked}",
        lambda: wide[: len(some)] @ square,
        repetitions,
    )
    for name, kind in FITTED.items():
        score = kind.fit(train)
        report(f"fit of the score {name}, {shape}", lambda: kind.fit(train), repetitions)  # noqa: B023
        report(f"answers of the score {name}, {asked}", lambda: score(outputs), repetitions)  # noqa: B023
    report_neighbours(x, some, repetitions)


def report_neighbours(
    x: npt.NDArray[np.float32], some: npt.NDArray[np.float32], repetitions: int
) -> None:
    """Exact neighbours against the product alone and scikit-learn's brute force."""
    from sklearn.neighbors import NearestNeighbors

    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    some = some / np.linalg.norm(some, axis=1, keepdims=True)
    peer = NearestNeighbors(n_neighbors=50, algorithm="brute").fit(x)
    shape = f"50 of {len(x):,} for {len(some):,} x {x.shape[1]}"
    for name, action in (
        ("selectkit", lambda: nearest(some, x, 50)),
        ("scikit-learn", lambda: peer.kneighbors(some)),
        ("the product alone", lambda: [some[i : i + 256] @ x.T for i in range(0, len(some), 256)]),
    ):
        report(f"nearest neighbours, {shape}: {name}", action, repetitions)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--d", type=int, default=768)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    with threadpool_limits(1):
        main(arguments.n, arguments.d, arguments.repetitions)
