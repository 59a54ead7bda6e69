"""Which rows count as evidence, and what intervals say when nothing went wrong."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from selectkit.cache import Features
from selectkit.errors import DataError, LeakageError
from selectkit.metrics import bootstrap
from selectkit.pipeline.calibrate import certified
from selectkit.pipeline.evidence import one_per_group
from selectkit.pipeline.fitted import recode
from selectkit.pipeline.inputs import positive_index
from selectkit.pipeline.judged import Judged
from selectkit.pipeline.measure import measure, measure_rates
from selectkit.policies import Decision, Outputs, Target


def _rows(groups: list[str], split: str = "val_calib") -> Features:
    n = len(groups)
    return Features(
        rows=np.arange(n),
        ids=np.array([f"id{i}" for i in range(n)], dtype=object),
        x=np.zeros((n, 1), dtype=np.float32),
        y=np.arange(n) % 2,
        groups=np.array(groups, dtype=object),
        classes=("a", "b"),
        split=split,
        fingerprint="sha256:" + "0" * 64,
    )


def test_one_row_of_each_group_whatever_the_order() -> None:
    rows = _rows(list("aabbbc"))
    chosen = {str(i) for i in rows.ids[one_per_group(rows)]}
    order = np.array([5, 3, 1, 0, 4, 2])
    shuffled = replace(rows, ids=rows.ids[order], groups=rows.groups[order])
    assert {str(i) for i in shuffled.ids[one_per_group(shuffled)]} == chosen
    assert len(chosen) == 3
    assert len(one_per_group(_rows(list("abcdef")))) == 6


def _certain(n: int) -> Outputs:
    z = np.zeros((n, 2))
    z[np.arange(n), np.arange(n) % 2] = 5 + np.linspace(0, 1, n)
    return Outputs(z, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))


def test_copies_of_an_image_are_no_further_evidence() -> None:
    """100 rows certify 5 %; 20 images in five copies each do not."""
    settings = {"target": Target("error", 0.05), "delta": 0.1, "score": "msp", "positive": None}
    alone, n = certified(_rows([str(i) for i in range(100)]), _certain(100), **settings)  # type: ignore[arg-type]
    assert (alone.infeasible, n) == (None, 100)
    copies, n = certified(_rows([str(i // 5) for i in range(100)]), _certain(100), **settings)  # type: ignore[arg-type]
    assert n == 20
    assert copies.infeasible is not None
    assert copies.infeasible.needs == 45
    assert not copies.decide(_certain(4)).accepted.any()


def test_positives_of_mixed_groups_all_count() -> None:
    """A group's lowest hash may be a negative; its positives are evidence all the same."""
    rows = _rows([str(i // 2) for i in range(100)])  # 50 groups of one negative, one positive
    policy, n = certified(
        rows, _certain(100), target=Target("fnr", 0.05), delta=0.1, score="msp", positive=1
    )
    assert n == 50
    certificate = policy.certificate
    assert certificate is not None
    assert (certificate.n, certificate.n_accepted, certificate.grouped) == (50, 50, True)
    assert "counting one image of each group" in certificate.sentence()
    assert "50 accepted positives" in certificate.sentence()


def test_only_val_calib_certifies() -> None:
    for split in ("train", "val_select", "val_test"):
        with pytest.raises(LeakageError, match=f"on val_calib only; got the rows of {split}"):
            certified(
                _rows(["a"], split),
                _certain(1),
                target=Target("error", 0.05),
                delta=0.1,
                score="msp",
                positive=None,
            )


def _judged(n: int, groups: list[int] | None = None) -> Judged:
    y = np.arange(n) % 2
    p = np.where(y[:, None] == np.arange(2), 0.9, 0.1)
    decision = Decision(np.ones(n, bool), y, p > 0.5, np.linspace(0.8, 0.9, n))
    return Judged(y, p, decision, None if groups is None else np.array(groups), 1)


def test_no_error_among_few_does_not_mean_none() -> None:
    sections, _ = measure(_judged(40), n_replicates=100, seed=0)
    error = sections["operating"]["error"]
    assert (error.value, error.low) == (0, 0)
    assert error.high == pytest.approx(1 - 0.025 ** (1 / 40))
    assert sections["operating"]["fnr"].high == pytest.approx(1 - 0.025 ** (1 / 20))
    grouped, _ = measure(_judged(40, [i // 10 for i in range(40)]), n_replicates=100, seed=0)
    assert grouped["operating"]["error"].high == pytest.approx(1 - 0.025 ** (1 / 4))


def test_intervals_of_rare_errors_keep_their_level() -> None:
    """95 % intervals of a 2 % error among 100 images; the bootstrap alone misses far too often."""
    rng = np.random.default_rng(0)
    trials, n, rate = 300, 100, 0.02
    missed, missed_by_bootstrap = 0, 0
    for _ in range(trials):
        judged = _judged(n)
        wrong = rng.random(n) < rate
        judged = replace(judged, labels=np.where(wrong, 1 - judged.labels, judged.labels))
        found = measure_rates(
            judged, np.ones(n, bool), ("error",), n_replicates=100, seed=int(rng.integers(1 << 30))
        )["error"]
        alone = bootstrap(["error"], judged.decision.score, wrong, n_replicates=100, rng=rng)[
            "error"
        ]
        missed += not found.low <= rate <= found.high
        missed_by_bootstrap += not alone.low <= rate <= alone.high
    assert binom.sf(missed - 1, trials, 0.05) > 1e-6
    assert binom.sf(missed_by_bootstrap - 1, trials, 0.05) < 1e-6


def test_labels_are_matched_by_name() -> None:
    rows = replace(_rows(list("abcd")), classes=("x", "y"))
    assert recode(rows, ("y", "x")).y.tolist() == [1, 0, 1, 0]
    assert recode(replace(rows, y=np.array([0, -1, 1, -1])), ("y", "x")).y.tolist() == [
        1,
        -1,
        0,
        -1,
    ]
    with pytest.raises(DataError, match=r"labels \['y'\] that the head was not fitted on"):
        recode(rows, ("x", "z"))


def test_the_positive_class() -> None:
    assert positive_index(("no", "yes"), None) == 1
    assert positive_index(("no", "yes"), "no") == 0
    assert positive_index(("a", "b", "c"), None) is None
    with pytest.raises(DataError, match="is none of the labels"):
        positive_index(("a", "b"), "c")
