"""Promises on real scores: 1,000 random calibration splits, judged on the whole pool.

The pool is the population: rows are drawn from it without replacement, the true risk is the risk on
all of its rows, and the promise is about that.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from selectkit.risk import (
    Certificate,
    Infeasible,
    certify_by_group,
    certify_pvalues,
    certify_threshold,
    crc_lambda,
    crc_threshold,
    loss_pvalues,
    sgr,
)

Floats = npt.NDArray[np.float64]
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RUNS, DELTA = 1000, 0.1


def promise_kept(misses: int) -> bool:
    return bool(scipy_stats.binom.sf(misses - 1, RUNS, DELTA) >= 1e-6)


def at_most(misses: int) -> bool:
    return bool(misses / RUNS <= DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / RUNS))


def path_of(folder: str, file: str) -> Path:
    path = DATA / folder / file
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


def top_label(folder: str, file: str) -> tuple[Floats, Floats]:
    """Confidence of the top class, and 1 where it is wrong."""
    with np.load(path_of(folder, file)) as arrays:
        if "probs" in arrays:
            p, y = arrays["probs"].astype(np.float64), arrays["labels"]
            return p.max(axis=1), (p.argmax(axis=1) != y).astype(np.float64)
        wrong = arrays["efficientnet_b1__true"] != arrays["efficientnet_b1__pred"]
        return arrays["efficientnet_b1__conf"].astype(np.float64), wrong.astype(np.float64)


class Pool:
    """The risk of every threshold on all rows."""

    def __init__(self, s: Floats, loss: Floats) -> None:
        order = np.argsort(s)
        self.s = s[order]
        self.below = np.concatenate(([0.0], np.cumsum(loss[order])))

    def errors(self, threshold: float) -> tuple[float, int]:
        first = int(np.searchsorted(self.s, threshold))
        return float(self.below[-1] - self.below[first]), len(self.s) - first


Rule = Callable[[Floats, Floats, float], Certificate | Infeasible]
RULES: dict[str, Rule] = {
    "walk": lambda s, e, alpha: certify_threshold(s, e, alpha=alpha, delta=DELTA),
    "sgr": lambda s, e, alpha: sgr(s, e, alpha=alpha, delta=DELTA),
    "all": lambda s, e, alpha: certify_threshold(
        s, e, alpha=alpha, delta=DELTA, denominator="all", risk="harm"
    ),
}
POOLS = [
    ("imagenet_top1_dev", "imagenet_top1_dev.npz", 0.1),
    ("cleanlab_cifar10", "cifar10.npz", 0.02),
    ("netcal_c10_wrn164", "netcal_c10_wrn164.npz", 0.03),
    ("netcal_c100_wrn164", "netcal_c100_wrn164.npz", 0.1),
]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("folder", "file", "alpha"), POOLS)
def test_thresholds_on_real_scores(name: str, folder: str, file: str, alpha: float) -> None:
    s, wrong = top_label(folder, file)
    pool, rng = Pool(s, wrong), np.random.default_rng(0)
    misses, slack, covered = 0, [], []
    for _ in range(RUNS):
        rows = rng.choice(len(s), 1000, replace=False, shuffle=False)
        found = RULES[name](s[rows], wrong[rows], alpha)
        if not isinstance(found, Certificate):
            covered.append(0.0)
            continue
        errors, n = pool.errors(found.threshold)
        risk = errors / len(s) if name == "all" else errors / max(n, 1)
        misses += risk > alpha
        slack.append(found.risk_upper - risk)
        covered.append(n / len(s))
    assert promise_kept(misses)
    assert at_most(misses)
    assert np.mean(covered) > 0.2
    assert 0 < np.mean(slack) < 0.5 * alpha  # the reported bound is above the risk, but not far


@pytest.mark.parametrize(("folder", "file", "alpha"), POOLS)
def test_on_average_on_real_scores(folder: str, file: str, alpha: float) -> None:
    s, wrong = top_label(folder, file)
    pool, rng = Pool(s, wrong), np.random.default_rng(1)
    risks = []
    for _ in range(RUNS):
        rows = rng.choice(len(s), 1000, replace=False, shuffle=False)
        found = crc_threshold(s[rows], wrong[rows], alpha=alpha / 2)
        assert isinstance(found, Certificate)
        risks.append(pool.errors(found.threshold)[0] / len(s))
    error = np.std(risks) / np.sqrt(RUNS)
    assert np.mean(risks) <= alpha / 2 + 3 * error
    assert np.mean(risks) > 0.9 * alpha / 2
    assert not promise_kept(int((np.array(risks) > alpha / 2).sum()))  # on average only


LAMBDAS = np.linspace(0, 1, 51)[1:]


def missed_share() -> Floats:
    """Share of an image's labels that the set {score >= 1 - lambda} misses, (N, L)."""
    with np.load(path_of("coco_tresnetxl_dev", "coco_tresnetxl_dev.npz")) as arrays:
        scores, labels = arrays["scores"].astype(np.float64), arrays["labels"] == 1
    caught = np.stack([((scores >= 1 - t) & labels).sum(axis=1) for t in LAMBDAS], axis=1)
    return np.asarray(1 - caught / labels.sum(axis=1, keepdims=True))


def test_missed_labels_of_sets() -> None:
    losses, rng = missed_share(), np.random.default_rng(2)
    risk = losses.mean(axis=0)
    on_average, misses, slack = [], 0, []
    for _ in range(RUNS):
        rows = rng.choice(len(losses), 500, replace=False)
        found = crc_lambda(losses[rows], LAMBDAS, alpha=0.1)
        assert isinstance(found, Certificate)
        on_average.append(risk[np.searchsorted(LAMBDAS, found.threshold)])
        p = loss_pvalues([losses[rows]], 0.1, rng, delta=DELTA)
        walk = certify_pvalues(p, DELTA, procedure="fixed_sequence", order=np.arange(50)[::-1])
        assert walk.feasible
        best = walk.best(-LAMBDAS)
        misses += risk[best] > 0.1
        slack.append(0.1 - risk[best])
    assert np.mean(on_average) <= 0.1 + 3 * np.std(on_average) / np.sqrt(RUNS)
    assert np.mean(on_average) > 0.08
    assert at_most(misses)
    assert 0 < np.mean(slack) < 0.04


def test_groups_of_jobs_are_kept_jointly() -> None:
    names = ["VF", "F", "M", "L"]
    with path_of("hpc_cv", "hpc_cv.csv").open(newline="") as lines:
        table = list(csv.DictReader(lines))
    s = np.array([max(float(row[name]) for name in names) for row in table])
    wrong = np.array([row["obs"] != row["pred"] for row in table], dtype=np.float64)
    folds = np.array([int(row["Resample"][4:]) % 3 for row in table])
    pools = {g: Pool(s[folds == g], wrong[folds == g]) for g in range(3)}
    rng, misses, covered = np.random.default_rng(3), 0, []
    for _ in range(RUNS):
        rows = rng.choice(len(s), 1500, replace=False)
        found = certify_by_group(s[rows], wrong[rows], folds[rows], alpha=0.2, delta=DELTA)
        broken = False
        for group, answer in found.answers.items():
            if isinstance(answer, Certificate):
                errors, n = pools[int(group)].errors(answer.threshold)
                broken |= errors > 0.2 * n
                covered.append(n / len(pools[int(group)].s))
        misses += broken
    assert at_most(misses)
    assert np.mean(covered) > 0.3
