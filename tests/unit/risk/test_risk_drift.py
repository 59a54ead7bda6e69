"""Drift triggers: statistics against plain twins, storage, looks, refusals."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from selectkit import schemas
from selectkit.errors import ArtifactError, DataError, RiskError
from selectkit.risk.drift import DriftReference, DriftWatch
from selectkit.risk.drift_mmd import MmdReference
from selectkit.risk.drift_scores import KsReference, PsiReference

Floats = npt.NDArray[np.float64]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def references() -> list[DriftReference]:
    scores = rng().normal(size=400)
    return [
        PsiReference.fit(scores),
        KsReference.fit(scores, rng=rng()),
        MmdReference.fit(scores, rng=rng(), n_frequencies=16),
    ]


def test_psi_is_the_sum_over_bins() -> None:
    old, new = rng(1).random(200), rng(2).random(90) ** 2
    reference = PsiReference.fit(old, bins=5)
    edges = [-np.inf, *reference.edges, np.inf]
    total = 0.0
    for low, high in pairwise(edges):
        e = (((old > low) & (old <= high)).sum() + 0.5) / (200 + 2.5)
        a = (((new > low) & (new <= high)).sum() + 0.5) / (90 + 2.5)
        total += (a - e) * np.log(a / e)
    assert reference.counts == (40,) * 5
    assert reference.compare(new)[0] == pytest.approx(total)


def test_psi_sees_values_leave_a_tie_on_either_side() -> None:
    constant = PsiReference.fit(np.full(500, 0.9))
    assert constant.compare(np.full(100, 0.9))[1] == 1
    assert constant.compare(np.full(100, 0.8))[1] < 1e-3
    assert constant.compare(np.full(100, 1.0))[1] < 1e-3
    half = PsiReference.fit(np.concatenate([np.ones(500), rng().random(500)]))
    assert half.compare(rng(3).random(100))[1] < 1e-3


def test_ks_is_that_of_scipy_with_ties_across_samples() -> None:
    for seed in range(20):
        a, b = rng(seed).integers(0, 6, 40).astype(float), rng(seed + 99).integers(0, 7, 55)
        expected = scipy_stats.ks_2samp(a, b, method="exact")
        gap, p_value = KsReference.fit(a, rng=rng()).compare(b)
        assert gap == pytest.approx(float(expected.statistic))
        assert p_value >= float(expected.pvalue) - 1e-12


def test_ks_of_equal_samples_is_zero_and_of_separate_ones_is_one() -> None:
    reference = KsReference.fit([3, 1, 2, 2], rng=rng())
    assert reference.compare([2, 2, 1, 3]) == (0.0, 1.0)
    assert reference.compare([7.0])[0] == 1
    assert KsReference.fit(np.arange(50_000), rng=rng(), size=100).values != tuple(range(100))
    assert len(KsReference.fit(np.arange(50_000), rng=rng(), size=100).values) == 100


def test_order_is_all_that_counts_for_scores() -> None:
    old, new = rng(5).normal(size=300), rng(6).normal(0.3, size=200)
    for kind in (PsiReference.fit, lambda s: KsReference.fit(s, rng=rng())):
        assert kind(old).compare(new) == kind(np.exp(old)).compare(np.exp(new))
    deferred = np.where(old < 0, -np.inf, old)
    assert KsReference.fit(deferred, rng=rng()).compare(deferred) == (0.0, 1.0)
    json.dumps(PsiReference.fit(deferred).to_dict(), allow_nan=False)


def test_mmd_is_the_kernel_distance_up_to_random_features() -> None:
    old, new = rng(7).normal(size=(300, 3)), rng(8).normal(0.7, 1, size=(250, 3))
    reference = MmdReference.fit(old, rng=rng(), n_frequencies=512)

    def kernel(a: Floats, b: Floats) -> float:
        squares = ((a[:, None] - b) ** 2).sum(-1)
        return float(np.exp(-squares / (2 * reference.bandwidth**2)).mean())

    exact = kernel(old, old) + kernel(new, new) - 2 * kernel(old, new)
    found, p_value = reference.compare(new)
    assert found**2 == pytest.approx(exact, rel=0.2)
    assert p_value < 1e-6


def test_mmd_tail_is_that_of_the_weighted_sum() -> None:
    from selectkit.risk.drift_mmd import _tail

    weights = np.array([1.0, 0.5, 0.2, 0.1, 0.05])
    draws = (rng(9).normal(size=(200_000, 5)) ** 2) @ weights
    for level in (0.5, 0.1, 0.01):
        assert _tail(float(np.quantile(draws, 1 - level)), weights) == pytest.approx(
            level, rel=0.06
        )
    assert _tail(0.0, weights) == pytest.approx(1, abs=0.01)


def test_mmd_does_not_depend_on_blocks_or_dtype() -> None:
    x = rng(10).normal(size=(5000, 4)).astype(np.float32)
    reference = MmdReference.fit(x, rng=rng(), n_frequencies=8)
    assert reference.compare(x)[0] == pytest.approx(0, abs=1e-12)
    assert reference.compare(x[::-1].astype(np.float64))[1] == 1
    assert len(reference.mean) == len(reference.spread) == 16


def test_constant_features() -> None:
    reference = MmdReference.fit(np.ones((50, 2)), rng=rng())
    assert reference.compare(np.ones((60, 2)))[1] == 1
    assert reference.compare(np.zeros((60, 2)))[1] == 0


@pytest.mark.parametrize("index", range(3))
def test_storage_gives_equal_answers(index: int) -> None:
    watch = DriftWatch(references()[index], level=0.1, planned_looks=7)
    watch, first = watch.look(rng(4).normal(size=150))
    document = {"kind": "monitor", "format_version": 1, **watch.to_dict()}
    schemas.validate(document, "monitor.json")
    loaded = DriftWatch.from_dict(json.loads(json.dumps(document, allow_nan=False)))
    assert loaded == watch
    moved = rng(5).normal(1, size=150)
    assert loaded.look(moved) == watch.look(moved)
    assert (loaded.looks, first.look, first.n) == (1, 1, 150)
    assert first.level == pytest.approx(0.1 / 7)


@pytest.mark.parametrize("index", range(3))
def test_a_move_asks_for_an_audit_and_promises_nothing(index: int) -> None:
    watch = DriftWatch(references()[index])
    quiet = watch.look(rng(20).normal(size=200))[1]
    moved = watch.look(rng(21).normal(1, size=200))[1]
    assert not quiet.triggered
    assert "promises nothing about errors" in quiet.sentence()
    assert moved.triggered
    assert "asks for an audit; it says nothing about errors" in moved.sentence()


def test_more_looks_share_the_level() -> None:
    ks = references()[1]
    assert DriftWatch(ks, 0.05, 365).look(np.zeros(9))[1].level == pytest.approx(0.05 / 365)
    with pytest.raises(RiskError, match="Plan fewer looks, or use ks"):
        DriftWatch(references()[0], 0.05, 5000)
    assert DriftWatch(ks, 0.05, 5000).planned_looks == 5000


@pytest.mark.parametrize(
    "options",
    [
        {"level": 0.0},
        {"level": np.nan},
        {"planned_looks": 0},
        {"planned_looks": 1.5},
        {"looks": -1},
    ],
)
def test_impossible_watches_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RiskError):
        DriftWatch(references()[1], **options)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "got \\(0,\\)"),
        ([0.1, np.nan], "row 1"),
        ([[[0.1]]], "shape|columns"),
        (["a", "b"], "real numbers"),
        (3.0, "shape"),
    ],
)
@pytest.mark.parametrize("index", range(3))
def test_bad_values_are_refused(index: int, values: Any, words: str) -> None:
    with pytest.raises(DataError, match=words if index < 2 else ".*"):
        DriftWatch(references()[index]).look(values)


def test_refusals_at_the_start() -> None:
    with pytest.raises(DataError, match="N >= 10"):
        PsiReference.fit([0.1] * 9)
    with pytest.raises(RiskError, match="bins"):
        PsiReference.fit([0.1] * 9, bins=1)
    with pytest.raises(RiskError, match="size"):
        KsReference.fit([0.1], rng=rng(), size=0)
    with pytest.raises(RiskError, match="n_frequencies"):
        MmdReference.fit([0.1, 0.2], rng=rng(), n_frequencies=0)
    with pytest.raises(DataError, match="N >= 2"):
        MmdReference.fit([0.1], rng=rng())
    with pytest.raises(DataError, match="not finite in row 4999"):
        MmdReference.fit([*[0.1] * 4999, np.inf], rng=rng(3), n_frequencies=2)
    with pytest.raises(DataError, match="3 columns; the reference has 1"):
        references()[2].compare(np.zeros((5, 3)))


@pytest.mark.parametrize(
    ("index", "change"),
    [
        (0, {"edges": []}),
        (0, {"edges": [1.0, 1.0], "counts": [1, 1, 1]}),
        (0, {"counts": [1]}),
        (0, {"edges": [0.0], "counts": [-1, 4]}),
        (0, {"edges": [0.0], "counts": [0, 0]}),
        (0, {"edges": ["a"]}),
        (0, {"extra": 1}),
        (1, {"values": []}),
        (1, {"values": [2.0, 1.0]}),
        (1, {"values": [[1.0]]}),
        (1, {"values": [float("nan")]}),
        (2, {"bandwidth": 0}),
        (2, {"bandwidth": "wide"}),
        (2, {"mean": [0.0]}),
        (2, {"spread": [-1.0] * 32}),
        (2, {"seed": -1}),
        (2, {"seed": 0.5}),
        (2, {"n": 1}),
        (0, {"kind": "chi"}),
        (1, {"kind": "psi"}),
    ],
)
def test_damaged_references_are_refused(index: int, change: dict[str, Any]) -> None:
    document = DriftWatch(references()[index]).to_dict()
    document["reference"] = {**document["reference"], **change}
    with pytest.raises(ArtifactError):
        DriftWatch.from_dict(document)


@pytest.mark.parametrize(
    "change",
    [
        {"monitor": "risk"},
        {"level": 2.0},
        {"level": "high"},
        {"planned_looks": 0},
        {"looks": 0.5},
        {"reference": None},
        {"more": 1},
    ],
)
def test_damaged_watches_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError):
        DriftWatch.from_dict({**DriftWatch(references()[1]).to_dict(), **change})
