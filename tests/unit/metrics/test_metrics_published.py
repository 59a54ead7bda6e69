"""Figures that others printed: torch-uncertainty's vectors, a network's calibration, photographs.

Where a definition differs from ours, the test says how and converts.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit import metrics as m
from selectkit.arrays import softmax
from selectkit.metrics.calibration import binned_gap

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
VECTORS = DATA / "tables" / "torch_uncertainty_aurc_vectors.json"
FOCAL = DATA / "tables" / "focal2020_cifar10.json"
IMAGENET = DATA / "imagenet_top1_dev" / "imagenet_top1_dev.npz"
NETWORK = DATA / "resnet50_c10_ce" / "resnet50_c10_ce.npz"


def needs(path: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not path.is_file(), reason=f"{path.name} is not beside the tree")


@needs(VECTORS)
def test_torch_uncertainty_vectors() -> None:
    """Their AURC is the trapezoid from coverage 1/n to 1 over the width 1 - 1/n of that range.

    Ours adds the first risk over (0, 1/n). In the third vector two right predictions are tied at
    0.8: they count these as two steps of risk 0, we as one, which is the same area. They leave
    n = 1 undefined; here it is the loss itself.
    """
    cases = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]
    assert len(cases) == 3
    for case in cases:
        p, y = np.array(case["probs"]), np.array(case["targets"])
        s, wrong = np.maximum(p, 1 - p), (p >= 0.5) != (y == 1)
        n, first = len(s), float(wrong[np.argmax(s)])
        theirs = (m.aurc(s, wrong) - first / n) / (1 - 1 / n)
        assert theirs == pytest.approx(case["aurc"], abs=1e-12)
    assert m.aurc([0.7], [1]) == 1


@needs(FOCAL)
@needs(NETWORK)
def test_the_calibration_of_a_published_network() -> None:
    """Error, ECE, and the ECE after the temperature from 0.1 to 10 that is best on validation."""
    table = json.loads(FOCAL.read_text(encoding="utf-8"))
    error = next(row for row in table["rows_error"] if row[0] == "ResNet-50")[1]
    errors = next(row for row in table["rows_ece"] if row[0] == "ResNet-50")[1:3]
    with np.load(NETWORK) as arrays:
        logits = {k: arrays[f"{k}_logits"].astype(np.float64) for k in ("val", "test")}
        labels = {k: arrays[f"{k}_labels"].astype(np.int64) for k in ("val", "test")}
    grid = [t / 10 for t in range(1, 101)]
    best = min(grid, key=lambda t: m.ece(softmax(logits["val"] / t), labels["val"]))
    before = m.ece(softmax(logits["test"]), labels["test"])
    after = m.ece(softmax(logits["test"] / best), labels["test"])
    wrong = logits["test"].argmax(axis=1) != labels["test"]
    assert f"{100 * wrong.mean():.2f}" == error
    assert f"{100 * before:.2f}" == errors[0]
    assert f"{100 * after:.2f} ({best})" == errors[1]


def reference(*keys: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / "reference_shared.json").read_text("utf-8"))["sets"]
    for key in keys:
        found = found[key]
    return found


@needs(IMAGENET)
@pytest.mark.parametrize("name", ["efficientnet_b1", "tv_densenet161"])
def test_fifty_thousand_photographs(name: str) -> None:
    """Top-label confidences alone; thousands of them tied in the second network."""
    expected = reference("imagenet_top1_dev", name)
    with np.load(IMAGENET) as arrays:
        true, guess, s = (arrays[f"{name}__{what}"] for what in ("true", "pred", "conf"))
    right = true == guess
    gap = binned_gap(s.astype(np.float64), right, 15, "width")
    assert gap == pytest.approx(expected["ece15"], abs=1e-9)
    assert m.aurc(s, ~right) == pytest.approx(expected["aurc_trapz"], abs=1e-12)
    assert m.aurc(s, ~right, "mean") == pytest.approx(expected["aurc_tie"], abs=1e-12)
    assert m.augrc(s, ~right) == pytest.approx(expected["augrc_trapz"], abs=1e-12)
    assert m.augrc(s, ~right) == pytest.approx(expected["augrc_identity"], abs=1e-12)
    assert m.auroc_failure(s, ~right) == pytest.approx(expected["failure_auroc"], abs=1e-12)
    assert m.optimal_augrc(~right) == pytest.approx(expected["augrc_optimal_limit"], abs=1e-12)
    best = m.optimal_aurc(~right, "mean")
    assert best == pytest.approx(expected["aurc_optimal_discrete"], abs=1e-12)


@needs(DATA / "reference_shared.json")
@pytest.mark.parametrize("name", ["cleanlab_cifar10", "two_class_example", "hpc_cv"])
def test_optima_follow_from_the_error_rate(name: str) -> None:
    """`aurc_optimal_limit` is the population's optimum, which ours approaches as N grows."""
    expected = reference(name)
    n, errors = expected["n"], expected["errors"]
    loss = np.arange(n) < errors
    optima = expected["msp"]
    assert m.optimal_aurc(loss, "mean") == pytest.approx(optima["aurc_optimal_discrete"], abs=1e-12)
    assert m.optimal_augrc(loss) == pytest.approx(optima["augrc_optimal_limit"], abs=1e-12)
    again = np.repeat(loss, 100)
    assert m.optimal_aurc(again) == pytest.approx(optima["aurc_optimal_limit"], abs=3 / (100 * n))
