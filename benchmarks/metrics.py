"""Are the metrics as fast as plain numpy written for the purpose, and how far from other packages?

Run `python -m benchmarks.metrics > benchmarks/results/metrics.jsonl`. The floor of the areas is one
argsort; the floor of the bootstrap re-evaluates one metric of the presorted sample on drawn and
sorted ranks, and the naive loop sorts every resample. Packages that are not installed are left out;
`PYTHONPATH` may name a folder of packages (`pip install --target`). Times are CPU seconds of all
threads together, unless they are called wall seconds.

The areas are mostly numpy's sort. Its code for AVX-512 is slow on AMD's Zen 4: the environment
`NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL"` made numpy 2.4 sort a million values there in 11 ms
instead of 55, argsort in 35 instead of 90, and AURC take 24 instead of 66; the results are the
same. Of ECE from probabilities a third of the time goes into laying classes side by side.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter, process_time
from tracemalloc import get_traced_memory, start, stop
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import _metrics_peers as peers
from benchmarks import _metrics_plain as plain
from benchmarks._figures import figure, middle
from benchmarks._metrics_peers import Rival
from benchmarks._metrics_plain import Floats, Labels
from selectkit import metrics as m

AREAS = ("aurc", "augrc")
TOGETHER = (*AREAS, "risk_at_coverage@0.8")


def times(
    rivals: Sequence[Rival], repetitions: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Measure in turn, so that all see the same machine; the first round is not counted."""
    found: dict[str, list[float]] = {rival.name: [] for rival in rivals}
    for _ in range(repetitions + 1):
        for rival in rivals:
            begun = clock()
            rival.action()
            found[rival.name].append((clock() - begun) / rival.share)
    return {name: each[1:] for name, each in found.items()}


def report(
    question: str,
    ours: Rival,
    floors: Sequence[Rival],
    others: Sequence[Rival],
    repetitions: int,
) -> None:
    """Print times, ours over the floors' and the peers' over ours, and what answers differ by."""
    found = times([ours, *floors, *others], repetitions, process_time)
    for rival in (ours, *floors, *others):
        number, spread = middle(found[rival.name])
        figure(f"{question}: {rival.name}", number, "s", spread=spread, packages=rival.packages)
    for over, under in [(ours, floor) for floor in floors] + [(other, ours) for other in others]:
        pairs = zip(found[over.name], found[under.name], strict=True)
        number, spread = middle([a / b for a, b in pairs])
        versions = tuple(dict.fromkeys((*over.packages, *under.packages)))
        name = f"{question}: {over.name} / {under.name}"
        figure(name, number, "x", spread=spread, packages=versions)
    own = ours.answers()
    for other in others:
        for name, value in other.answers().items():
            gap = abs(value - own[name])
            figure(f"{question}: |{name} - {other.name}'s|", gap, "1", packages=other.packages)


def sample(n: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(n)
    s = rng.random(n)
    return s, (rng.random(n) < 0.05 + 0.4 * (1 - s) ** 2).astype(float)


def distributions(n: int, k: int) -> tuple[Floats, Labels]:
    """Probabilities, and labels that they overrate a little."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(k, 0.3), n)
    drawn = (np.cumsum(0.9 * p + 0.1 / k, axis=1) < rng.random((n, 1))).sum(axis=1)
    return p, np.minimum(drawn, k - 1)


def areas(n: int, repetitions: int) -> None:
    s, e = sample(n)

    def answers() -> dict[str, float]:
        return {k.upper(): v for k, v in m.selective_metrics(AREAS, s, e).items()}

    report(
        f"AURC and AUGRC, n = {n:,}",
        Rival("selectkit", answers, answers=answers),
        [
            Rival("one argsort", lambda: np.argsort(-s)),
            Rival("plain numpy", lambda: plain.plain_areas(s, e)),
        ],
        peers.areas(s, e),
        repetitions,
    )
    two = Rival("selectkit, a call for each", lambda: (m.aurc(s, e), m.augrc(s, e)))
    floor = Rival("argsort beside it", lambda: np.argsort(-s))
    report(f"AURC and AUGRC, n = {n:,}", two, [floor], [], repetitions)


def bootstraps(n: int, replicates: int, repetitions: int, rivals: bool) -> None:
    s, e = sample(n)
    rng = np.random.default_rng(0)
    question = f"bootstrap, {replicates:,} replicates, n = {n:,}"
    ours = Rival(
        "selectkit, AURC, AUGRC and risk at coverage",
        lambda: m.bootstrap(TOGETHER, s, e, n_replicates=replicates, rng=rng),
    )
    presorted = Rival(
        "presorted numpy, AURC alone", lambda: plain.presorted_aurc(s, e, replicates, rng)
    )
    few = max(1, replicates // 20)
    naive = Rival(
        "naive numpy, AURC and AUGRC",
        lambda: plain.naive_bootstrap(s, e, few, rng),
        share=few / replicates,
    )
    slow = [naive, *(peers.bootstraps(s, e, replicates) if rivals else [])]
    report(question, ours, [presorted], slow, repetitions)
    number, spread = middle(times([ours], repetitions, perf_counter)[ours.name])
    figure(f"{question}: {ours.name}, wall", number, "s", spread=spread)
    figure(f"{question}: {ours.name}, memory", peak(ours.action) / 1e6, "MB")


def peak(action: Callable[[], object]) -> int:
    """Bytes that Python and numpy hold at the worst moment, beside what they held before."""
    start()
    action()
    highest = get_traced_memory()[1]
    stop()
    return highest


def calibration(n: int, repetitions: int) -> None:
    p, y = distributions(n, 10)
    top_labels(f"ECE-15, n = {n:,}, K = 10", p, y, repetitions)
    q = p.astype(np.float32)
    top_labels(f"ECE-15, n = {n:,}, K = 10, float32", q, y, repetitions)
    report(
        f"smooth ECE, n = {n:,}, K = 10",
        Rival(
            "selectkit",
            lambda: m.smooth_ece(p, y),
            answers=lambda: {"smooth ECE": m.smooth_ece(p, y)},
        ),
        [],
        peers.smooth(p, y),
        repetitions,
    )
    top, right = p.max(axis=1), p.argmax(axis=1) == y
    report(
        f"ECE-15 of confidences, n = {n:,}",
        Rival(
            "selectkit",
            lambda: m.confidence_ece(top, right),
            answers=lambda: {"ECE": m.confidence_ece(top, right)},
        ),
        [Rival("plain numpy", lambda: plain.plain_confidence_ece(top, right))],
        peers.binned_confidences(top, right.astype(np.float64)),
        repetitions,
    )
    null = Rival("selectkit", lambda: m.ece_null_level(top))
    report(f"null level of ECE-15, n = {n:,}", null, [], [], repetitions)


def top_labels(question: str, p: npt.NDArray[Any], y: Labels, repetitions: int) -> None:
    report(
        question,
        Rival("selectkit", lambda: m.ece(p, y), answers=lambda: {"ECE": m.ece(p, y)}),
        [Rival("plain numpy", lambda: plain.plain_ece(p, y))],
        peers.binned(p, y),
        repetitions,
    )


def memory(n: int, k: int) -> None:
    """Print what each metric needs beside its inputs, at its peak."""
    p, y = distributions(n, k)
    s, wrong, guess = p.max(axis=1), p.argmax(axis=1) != y, p.argmax(axis=1)
    once = np.ones((1, n), dtype=np.uint8)
    actions: Mapping[str, Callable[[], object]] = {
        "AURC and AUGRC": partial(m.selective_metrics, AREAS, s, wrong),
        "working points": partial(m.working_points, s, wrong, coverages=[0.8], risks=[0.1]),
        "DeLong's intervals": partial(m.delong, ["augrc", "auroc_failure"], s, wrong),
        "AURC and AUGRC as statistics": lambda: m.curve_statistics(AREAS, s, wrong)(once),
        "balanced AUGRC": partial(m.augrc_balanced, s, wrong, y),
        "rates of labels": lambda: m.label_statistics(["mcc", "error"], y, guess)(once),
        "NLL": partial(m.nll, p, y),
        "Brier score": partial(m.brier, p, y),
        "parts of the Brier score": partial(m.brier_parts, p, y, n_bins=15),
        "ECE": partial(m.ece, p, y),
        "ECE of equal mass": partial(m.ece, p, y, scheme="mass"),
        "class-wise ECE": partial(m.classwise_ece, p, y),
        "smooth ECE": partial(m.smooth_ece, p, y),
        "NLL, Brier score and ECE as statistics": lambda: m.probability_statistics(
            ["nll", "brier", "ece"], p, y
        )(once),
    }
    for name, action in actions.items():
        question = f"memory beside the inputs, n = {n:,}, K = {k}: {name}"
        figure(question, peak(action) / 1e6, "MB")


def main(n: int, repetitions: int) -> None:
    areas(n, repetitions)
    bootstraps(n // 100, 1000, repetitions, rivals=False)
    bootstraps(n // 10, 1000, max(1, repetitions // 2), rivals=True)
    calibration(n, repetitions)
    for k in (2, 10):
        memory(n, k)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1_000_000, help="samples of the largest problem")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.n, arguments.repetitions)
