"""Certified thresholds on real predictions: half searches and certifies, half checks."""

import csv
from pathlib import Path

import numpy as np
import pytest

from selectkit.policies import (
    ClasswisePolicy,
    Guide,
    SoftmaxPolicy,
    Target,
    Targets,
    TwoSidedPolicy,
    fit_threshold,
)
from selectkit.policies.outputs import Outputs

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def _rows(name: str) -> Guide:
    """All rows of one data set, in random order, the first class first."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    if name in {"cleanlab_imdb_dev", "netcal_c10_wrn164"}:
        arrays = np.load(folder / f"{name}.npz")
        p, y = arrays["probs"].astype(np.float64), arrays["labels"].astype(np.int64)
    else:
        with (folder / f"{name}.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        truth = "truth" if "truth" in lines[0] else "obs"
        classes = [k for k in lines[0] if k not in {truth, "pred", "predicted", "Resample"}]
        p = np.array([[float(line[k]) for k in classes] for line in lines])
        y = np.array([classes.index(line[truth]) for line in lines])
    p = np.clip(p, 1e-12, 1)
    p /= p.sum(axis=1, keepdims=True)
    order = np.random.default_rng(0).permutation(len(y))
    return Guide(Outputs(np.log(p), p), y).take(order)


def _thirds(rows: Guide) -> tuple[Guide, Guide, Guide]:
    cuts = np.array_split(np.arange(len(rows.labels)), 3)
    return rows.take(cuts[0]), rows.take(cuts[1]), rows.take(cuts[2])


@pytest.mark.parametrize(
    ("name", "text"),
    [("two_class_example", "fnr=0.15,fpr=0.25"), ("cleanlab_imdb_dev", "fnr=0.08,fpr=0.08")],
)
def test_two_classes(name: str, text: str) -> None:
    guide, calib, test = _thirds(_rows(name))
    targets = Targets.parse(text)
    policy = TwoSidedPolicy.fit(
        calib.outputs, calib.labels, targets=targets, positive=1, guide=guide
    )
    assert isinstance(policy, TwoSidedPolicy)
    d = policy.decide(test.outputs)
    assert d.accepted.mean() > 0.3
    for target, label in zip(targets, (1, 0), strict=True):
        about = d.accepted & (test.labels == label)
        rate = (d.prediction != test.labels)[about].mean()
        assert rate < target.alpha + 3 * np.sqrt(target.alpha / about.sum())


@pytest.mark.parametrize(("name", "alpha"), [("hpc_cv", 0.25), ("netcal_c10_wrn164", 0.05)])
def test_more_classes(name: str, alpha: float) -> None:
    guide, calib, test = _thirds(_rows(name))
    policy = ClasswisePolicy.fit(calib.outputs, calib.labels, target=Target("error", alpha))
    assert isinstance(policy, ClasswisePolicy)
    d = policy.decide(test.outputs)
    assert d.accepted.mean() > 0.3
    for k in np.flatnonzero(np.isfinite(policy.thresholds)):
        mine = d.accepted & (d.prediction == k)
        rate = (d.prediction != test.labels)[mine].mean()
        assert rate < alpha + 3 * np.sqrt(alpha / mine.sum())
    joint, _ = fit_threshold(
        calib.outputs, calib.labels, targets=Targets.parse(f"error={alpha},deferral=0.6"),
        guide=guide,
    )  # fmt: skip
    assert isinstance(joint, SoftmaxPolicy)
    d = joint.decide(test.outputs)
    assert d.accepted.mean() > 0.35
    assert (d.prediction != test.labels)[d.accepted].mean() < 1.2 * alpha
