"""Agreement with independently computed figures on published predictions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selectkit.arrays import softmax
from selectkit.metrics import (
    augrc,
    aurc,
    auroc,
    auroc_failure,
    brier,
    classwise_ece,
    coverage_at_risk,
    ece,
    mce,
    nll,
    risk_at_coverage,
)

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"
REFERENCE = DATA / "reference_shared.json"
pytestmark = pytest.mark.skipif(not REFERENCE.is_file(), reason="no reference data beside the tree")


def near(value: float, within: float = 1e-9) -> Any:
    return pytest.approx(value, rel=0, abs=within)


P = npt.NDArray[np.float64]
Y = npt.NDArray[np.int64]


def csv(name: str, truth: str, classes: list[str]) -> tuple[P, Y]:
    import pandas as pd

    table = pd.read_csv(DATA / name / f"{name}.csv")
    return table[classes].to_numpy(float), table[truth].map(classes.index).to_numpy(np.int64)


def load(name: str) -> tuple[P, Y]:
    if name == "two_class_example":
        return csv(name, "truth", ["Class1", "Class2"])
    if name == "hpc_cv":
        return csv(name, "obs", ["VF", "F", "M", "L"])
    dataset, _, part = name.partition("/")
    files = np.load(next((DATA / dataset).glob("*.npz")))
    if part:
        return softmax(files[f"{part}_logits"]), files[f"{part}_labels"].astype(np.int64)
    return files["probs"].astype(float), files["labels"].astype(np.int64)


def reference(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(REFERENCE.read_text(encoding="utf-8"))["sets"]
    for key in name.split("/"):
        found = found[key]
    return found


NAMES = [
    "cleanlab_cifar10",
    "netcal_c10_wrn164",
    "netcal_c100_wrn164",
    "resnet50_c10_ce/val",
    "resnet50_c10_ce/test",
    "two_class_example",
    "hpc_cv",
]


@pytest.mark.parametrize("name", NAMES)
def test_probabilistic_metrics(name: str) -> None:
    p, y = load(name)
    expected = reference(name)
    assert ece(p, y) == near(expected["ece15"])
    assert mce(p, y) == near(expected["mce15"])
    assert classwise_ece(p, y) == near(expected["classwise_ece15_mean"])
    assert brier(p, y) == near(expected["brier_sum"])
    if "/" not in name:  # there the reference takes the log-softmax, without clipping
        assert nll(p, y) == near(expected["nll"])
    distinct = len(np.unique(p.max(axis=1))) == len(p)
    tolerance = 1e-9 if distinct else 1e-6  # the reference cuts through ties in row order
    assert ece(p, y, scheme="mass") == near(expected["ece15_equal_mass"], tolerance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("score", ["msp", "margin", "neg_entropy"])
def test_areas(name: str, score: str) -> None:
    p, y = load(name)
    expected = reference(name)[score]
    top = np.sort(p, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        s = {
            "msp": top[:, -1],
            "margin": top[:, -1] - top[:, -2],
            "neg_entropy": np.where(p > 0, p * np.log(p), 0.0).sum(axis=1),
        }[score]
    wrong = p.argmax(axis=1) != y
    within = 1e-9 if score == "msp" else 1e-6  # sums round, and ties with them
    assert aurc(s, wrong) == near(expected["aurc_trapz"], within)
    assert aurc(s, wrong, "mean") == near(expected["aurc_tie"], within)
    assert augrc(s, wrong) == near(expected["augrc_trapz"], within)
    assert auroc_failure(s, wrong) == near(expected["failure_auroc"], within)


@pytest.mark.parametrize("name", NAMES)
def test_working_points(name: str) -> None:
    p, y = load(name)
    expected = reference(name)["msp"]
    s, wrong = p.max(axis=1), p.argmax(axis=1) != y
    for risk in ("0.005", "0.01", "0.02", "0.05"):
        point = coverage_at_risk(s, wrong, float(risk))
        threshold = expected[f"thr_at_risk_{risk}"]
        assert point.coverage == near(expected[f"max_cov_at_risk_{risk}"])
        assert point.threshold == pytest.approx(np.inf if threshold is None else threshold)
    for coverage in ("0.5", "0.7", "0.8", "0.9", "0.95", "1"):
        point = risk_at_coverage(s, wrong, float(coverage))
        assert point.coverage >= float(coverage) - 1e-12
        if point.coverage == pytest.approx(float(coverage), abs=1e-12):
            reached = expected[f"risk_at_cov_{coverage}_tie"]
            assert point.risk == near(reached)


def test_auroc_of_the_positive_class() -> None:
    p, y = load("two_class_example")
    expected = reference("two_class_example")["auroc_class1"]
    assert auroc(p[:, 0], y == 0) == near(expected)
