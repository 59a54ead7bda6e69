"""Data at the edge: a sensible head or one clear error, for every kind of head."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selectkit.errors import DataError
from selectkit.heads import (
    AbstainHead,
    MlpHead,
    Recipe,
    SelectiveNet,
    SelfAdaptive,
    ThreeHead,
)

Data = tuple[npt.NDArray[Any], npt.NDArray[np.int64]]
KINDS: dict[str, tuple[Any, Any]] = {
    "mlp": (MlpHead, Recipe().loss),
    "three": (ThreeHead, SelectiveNet()),
    "abstain": (AbstainHead, SelfAdaptive()),
}


@pytest.fixture(params=[f"{k}, {h}" for k in KINDS for h in ("hidden", "linear")])
def fit(request: pytest.FixtureRequest) -> Any:
    kind, shape = request.param.split(", ")
    head, loss = KINDS[kind]

    def fitted(train: Data, select: Data | None = None, n_classes: int = 2, **more: Any) -> Any:
        settings = {"epochs": 20, "learning_rate": 0.05, "batch_size": 64, "loss": loss} | more
        recipe = Recipe(hidden=8 if shape == "hidden" else None, **settings)
        return head.fit(*train, select=select or train, n_classes=n_classes, recipe=recipe)

    return fitted


def _data(n: int, d: int = 4, seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, (x[:, 0] > 0).astype(np.int64)


def _accuracy(head: Any, data: Data) -> float:
    return float((head.logits(data[0]).argmax(axis=1) == data[1]).mean())


def test_one_class_in_train_is_refused(fit: Any) -> None:
    x, _ = _data(20)
    with pytest.raises(DataError, match="train holds only class 1 in its 20 labelled rows"):
        fit((x, np.ones(20, dtype=np.int64)))


def test_one_class_in_select_is_enough_to_stop_by(fit: Any) -> None:
    x, y = _data(200)
    assert _accuracy(fit((x, y), (x[y == 1], y[y == 1])), (x[y == 1], y[y == 1])) > 0.9


def test_constant_features_give_the_class_frequencies(fit: Any) -> None:
    y = (np.arange(300) % 4 == 0).astype(np.int64)
    z = fit((np.full((300, 3), 7.25), y)).logits(np.full((1, 3), 7.25))[0]
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    assert p[1] == pytest.approx(0.25, abs=0.08)


def test_a_constant_column_beside_others_does_no_harm(fit: Any) -> None:
    x, y = _data(300)
    x[:, 2] = 1e6
    assert _accuracy(fit((x, y)), (x, y)) > 0.9


def test_more_features_than_rows(fit: Any) -> None:
    train = _data(20, d=300)
    assert _accuracy(fit(train, epochs=60), train) >= 0.9  # a gate may leave rows out


def test_two_rows_of_each_class(fit: Any) -> None:
    x = np.array([[0.0, 1.0], [0.1, -1.0], [3.0, 1.0], [3.1, -1.0]])
    y = np.array([0, 0, 1, 1])
    assert _accuracy(fit((x, y), epochs=100, patience=100), (x, y)) == 1


def test_a_thousand_to_one(fit: Any) -> None:
    rng = np.random.default_rng(0)
    y = np.zeros(2002, dtype=np.int64)
    y[[17, 1500]] = 1
    x = rng.normal(size=(2002, 3)) + 6 * y[:, np.newaxis]
    head = fit((x, y), class_weights="balanced", batch_size=256)
    z = head.logits(x)
    margin = z[:, 1] - z[:, 0]
    assert margin[y == 1].min() > np.quantile(margin[y == 0], 0.99)


def test_duplicated_rows_are_as_rows_seen_twice(fit: Any) -> None:
    x, y = _data(100)
    twice = np.repeat(x, 5, axis=0), np.repeat(y, 5)
    assert _accuracy(fit(twice, (x, y)), (x, y)) > 0.9


def test_contradicting_duplicates_end_near_a_half(fit: Any) -> None:
    x = np.repeat(np.random.default_rng(0).normal(size=(50, 3)), 2, axis=0)
    y = np.tile([0, 1], 50)
    assert np.abs(np.diff(fit((x, y)).logits(x), axis=1)).mean() < 1.5


def test_unlabelled_rows_are_left_out_exactly(fit: Any) -> None:
    x, y = _data(200)
    mixed = np.where(np.arange(200) % 3 == 0, -1, y)
    known = mixed >= 0
    one, two = fit((x, mixed)), fit((x[known], y[known]))
    np.testing.assert_array_equal(one.logits(x), two.logits(x))
    assert one.n_train == known.sum()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(40, -1), "train has 40 rows but no label: every label is -1"),
        (np.full(40, 2), r"train label 2 in row 0 is outside \[0, 2\)"),
        (np.full(40, -2), r"train label -2 in row 0 is outside \[0, 2\)"),
        (np.zeros(39, dtype=int), r"train labels must have shape \(40,\) to match the rows"),
        (np.zeros(40), "train labels must be integers"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(fit: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit((_data(40)[0], labels), _data(40))


def test_a_wrong_label_among_unlabelled_rows_is_named_by_its_row(fit: Any) -> None:
    y = np.array([-1] * 30 + [0] * 9 + [5])
    with pytest.raises(DataError, match=r"train label 5 in row 39 is outside \[0, 2\)"):
        fit((_data(40)[0], y), _data(40))


def test_features_that_are_not_finite_are_refused(fit: Any) -> None:
    for what in ("train", "select"):
        x, y = _data(40)
        broken = x.copy()
        broken[7, 2] = np.nan
        train, select = ((broken, y), (x, y)) if what == "train" else ((x, y), (broken, y))
        with pytest.raises(DataError, match=f"{what} features are nan in row 7, column 2"):
            fit(train, select)


def test_select_must_fit_train(fit: Any) -> None:
    x, y = _data(40)
    with pytest.raises(DataError, match="select features have 3 columns but train has 4"):
        fit((x, y), (x[:, :3], y))
    with pytest.raises(DataError, match=r"select holds none of the classes in train \(0, 1\)"):
        fit((x, y), (x, np.full(40, 2)), n_classes=3)
    with pytest.raises(DataError, match="n_classes must be at least 2, got 1"):
        fit((x, 0 * y), n_classes=1)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_of_the_features_does_not_matter(fit: Any, scale: float) -> None:
    x, y = _data(200)
    x64 = x * scale
    assert _accuracy(fit((x64, y)), (x64, y)) == pytest.approx(
        _accuracy(fit((x, y)), (x, y)), abs=0.02
    )
