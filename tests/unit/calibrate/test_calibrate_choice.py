"""The choice of a calibrator by cross-validated likelihood."""

import numpy as np
import pytest

from selectkit.arrays import softmax
from selectkit.calibrate import Platt, VectorScaling, choose
from selectkit.errors import CalibrationError, DataError
from tests.unit.calibrate.calibrate_samples import affine_sample, nll


def test_the_true_form_wins() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3000, 4)) * 3
    noise = rng.gumbel(size=z.shape)
    table = {c.method: c for c in choose(z, (z / 2.5 + noise).argmax(axis=1)).candidates}
    best = min(c.nll or 9.0 for c in table.values())
    behind = (table["temperature"].nll or 9.0) - best  # vector and matrix scaling can be it, too
    assert behind <= 2 * (table["temperature"].standard_error or 0.0)
    assert (table["histogram"].nll or 0.0) > best + 0.005
    slopes, intercepts = np.array([0.2, 0.5, 0.8, 1.1]), np.array([2.0, 0.0, -2.0, 0.0])
    answer = choose(z, (z * slopes + intercepts + noise).argmax(axis=1))
    assert isinstance(answer.calibrator, VectorScaling)
    assert [c.method for c in answer.candidates[-2:]] == ["temperature", "none"]


def test_the_table_is_sorted_and_says_what_was_held_out() -> None:
    rng = np.random.default_rng(1)
    u = rng.normal(size=800) * 2
    y = (rng.random(800) < 1 / (1 + np.exp(-(0.5 * u - 1.5)))).astype(np.int64)
    z = np.stack([np.zeros(800), u], axis=1)
    fold = np.arange(800) % 4
    answer = choose(z, y, folds=fold)
    table = {c.method: c for c in answer.candidates}
    assert set(table) == {"none", "temperature", "platt", "beta", "isotonic", "histogram"}
    found = [c.nll for c in answer.candidates]
    assert found == sorted(found, key=lambda value: value or 0)
    assert answer.candidates[0].method == answer.calibrator.method in {"platt", "beta"}
    assert answer.candidates[0].standard_error == 0
    assert table["none"].nll == pytest.approx(nll(softmax(z), y))
    held_out = [
        nll(Platt.fit(z[fold != f], y[fold != f]).probabilities(z[fold == f]), y[fold == f])
        for f in range(4)
    ]
    assert table["platt"].nll == pytest.approx(np.mean(held_out))
    assert answer.calibrator == type(answer.calibrator).fit(z, y)


def test_rows_of_a_group_are_held_out_together() -> None:
    rng = np.random.default_rng(4)
    z = np.repeat(rng.normal(size=(40, 3)) * 2, 30, axis=0)
    y = np.repeat(rng.integers(0, 3, 40), 30)  # noise, the same for 30 images of a scene
    fold = np.repeat(np.arange(40) % 5, 30)
    apart = {c.method: c.nll for c in choose(z, y, folds=fold).candidates}
    torn = {c.method: c.nll for c in choose(z, y).candidates}
    assert torn["isotonic"] is not None
    assert apart["isotonic"] is not None
    assert apart["isotonic"] > torn["isotonic"] + 0.2


def test_what_cannot_be_fitted_is_listed_with_the_reason() -> None:
    z, y, _, _ = affine_sample(80, 3)
    answer = choose(z, y)
    refused = {c.method: c.reason for c in answer.candidates if c.nll is None}
    assert "needs 100 samples or more, got 64" in (refused["isotonic"] or "")
    assert "histogram binning needs 150" in (refused["histogram"] or "")
    certain = choose(z, z.argmax(axis=1))
    assert certain.calibrator.method == "none"
    reasons = {c.method: c.reason for c in certain.candidates}
    assert "right every time" in (reasons["temperature"] or "")
    many = choose(*affine_sample(400, 40)[:2])
    assert {c.reason for c in many.candidates if c.method in {"matrix", "dirichlet"}} == {
        "not tried with more than 36 classes."
    }


def test_too_few_rows_or_folds_are_refused() -> None:
    with pytest.raises(CalibrationError, match="one sample cannot choose"):
        choose([[0.0, 1.0]], [1])
    with pytest.raises(DataError, match="at least two folds"):
        choose(np.eye(2), [0, 1], folds=[3, 3])
    assert choose(np.eye(2), [0, 1]).calibrator.method == "none"
