"""What an hour of numpy gives: the floors that metrics are measured against."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def plain_areas(s: Floats, e: Floats) -> tuple[float, float]:
    """AURC and AUGRC without regard to ties, one argsort."""
    lost = np.cumsum(e[np.argsort(-s)])
    k = np.arange(1, len(s) + 1)
    return float((lost / k).mean()), float(lost.mean() / len(s))


def naive_bootstrap(s: Floats, e: Floats, replicates: int, rng: np.random.Generator) -> Floats:
    """Both areas of materialised resamples, each sorted anew."""
    draws = (rng.integers(0, len(s), len(s)) for _ in range(replicates))
    areas = [plain_areas(s[i], e[i]) for i in draws]
    return np.asarray(np.quantile(areas, [0.025, 0.975], axis=0))


def presorted_aurc(s: Floats, e: Floats, replicates: int, rng: np.random.Generator) -> Floats:
    """AURC alone, on drawn and sorted ranks."""
    ordered, n = e[np.argsort(-s)], len(s)
    k = np.arange(1, n + 1)
    areas = np.empty(replicates)
    for i in range(replicates):
        lost = np.cumsum(ordered[np.sort(rng.integers(0, n, n))])
        areas[i] = (lost / k).mean()
    return np.asarray(np.quantile(areas, [0.025, 0.975]))


def plain_ece(p: Floats, y: Labels) -> float:
    """Fifteen bins of the top label, nothing checked."""
    guess = p.argmax(axis=1)
    return plain_confidence_ece(p[np.arange(len(p)), guess], guess == y)


def plain_confidence_ece(c: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Fifteen bins by truncation, whatever lies on an edge."""
    index = np.minimum((c * 15).astype(np.int64), 14)
    return float(abs(np.bincount(index, c - right, 15)).sum() / len(c))
