"""The MLP head: torch and numpy agree, training is repeatable, the best epoch is kept."""

from collections.abc import Callable
from math import nan
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch

from selectkit import heads
from selectkit.arrays import softmax
from selectkit.errors import ArtifactError, DataError
from selectkit.heads import Epoch, LinearHead, MlpHead, Recipe, negative_log_likelihood
from selectkit.heads.network import gelu

Data = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


def _xor(n: int = 400, seed: int = 0) -> Data:
    """Two features whose signs must differ: no linear head can tell."""
    x = np.random.default_rng(seed).uniform(-1, 1, size=(n, 2))
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def _fit(epochs: int = 3, *, seed: int = 0, patience: int = 10) -> MlpHead:
    recipe = Recipe(hidden=16, epochs=epochs, batch_size=64, seed=seed, patience=patience)
    return MlpHead.fit(*_xor(), select=_xor(seed=1), n_classes=2, recipe=recipe)


def test_it_learns_what_no_linear_head_can() -> None:
    recipe = Recipe(hidden=32, epochs=40, batch_size=50, learning_rate=1e-2)
    head = MlpHead.fit(*_xor(1000), select=_xor(seed=1), n_classes=2, recipe=recipe)
    test_x, test_y = _xor(seed=2)
    assert (head.logits(test_x).argmax(axis=1) == test_y).mean() > 0.95
    assert head.history[-1].train_loss < head.history[0].train_loss / 3


def test_without_a_hidden_layer_it_is_softmax_regression() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3))
    y = (rng.random(4000) < 1 / (1 + np.exp(-(x @ [1.0, -2.0, 0.0] + 0.5)))).astype(np.int64)
    recipe = Recipe(
        hidden=None, epochs=30, batch_size=100, learning_rate=1e-2, weight_decay=0.0, patience=30
    )
    head = MlpHead.fit(x, y, select=(x, y), n_classes=2, recipe=recipe)
    exact = LinearHead.fit(x, y, select=(x, y), n_classes=2, strengths=[1e-6])
    assert len(head.network.layers) == 1
    reached = negative_log_likelihood(head.logits(x), y)
    assert reached == pytest.approx(negative_log_likelihood(exact.logits(x), y), abs=1e-3)


def test_numpy_logits_equal_those_of_torch() -> None:
    network = _fit().network
    x = np.random.default_rng(3).normal(size=(130, 2)) * 3
    z = torch.from_numpy(((x - network.mean) / network.scale).astype(np.float32))
    (w1, b1), (w2, b2) = (
        (torch.from_numpy(w).float(), torch.from_numpy(b).float()) for w, b in network.layers
    )
    expected = torch.nn.functional.gelu(z @ w1 + b1) @ w2 + b2
    np.testing.assert_allclose(_fit().logits(x), expected.numpy(), atol=1e-5)


def test_gelu_is_the_exact_one() -> None:
    u = np.linspace(-8, 8, 101)
    expected = torch.nn.functional.gelu(torch.from_numpy(u)).numpy()
    np.testing.assert_allclose(gelu(u), expected, atol=1e-14)


def test_each_row_is_answered_the_same_alone_or_in_company() -> None:
    head, x = _fit(), _xor()[0]
    z = head.logits(x)
    for rows in ([0], [399, 5], list(range(30, 161))):
        np.testing.assert_array_equal(head.logits(x[rows]), z[rows])


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    a, b, other = _fit(), _fit(), _fit(seed=1)
    for one, two in zip(a.network.layers, b.network.layers, strict=True):
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])
    assert a.history == b.history
    assert not np.array_equal(a.network.layers[0][0], other.network.layers[0][0])


def test_the_global_random_state_and_threads_are_left_alone() -> None:
    before = torch.random.get_rng_state(), torch.get_num_threads()
    _fit()
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]


def test_the_best_epoch_is_kept_and_patience_ends_the_training() -> None:
    values = iter([3.0, 1.0, 2.0, 1.5, 2.0, 0.0])
    seen: list[npt.NDArray[np.float64]] = []
    told: list[Epoch] = []

    def scripted(logits: npt.NDArray[np.float64], labels: npt.NDArray[np.integer]) -> float:
        seen.append(logits)
        return next(values)

    x, y = _xor()
    head = MlpHead.fit(
        x, y, select=(x, y), n_classes=2, recipe=Recipe(hidden=8, epochs=20, patience=3),
        criterion=scripted, on_epoch=told.append,
    )  # fmt: skip
    assert [epoch.criterion for epoch in head.history] == [3.0, 1.0, 2.0, 1.5, 2.0]
    assert told == list(head.history)
    np.testing.assert_allclose(head.logits(x), seen[1], atol=1e-5)
    assert np.abs(seen[1] - seen[4]).max() > 1e-3


def test_the_default_criterion_is_the_select_likelihood_of_the_shipped_weights() -> None:
    head = _fit(epochs=4)
    x, y = _xor(seed=1)
    best = min(epoch.criterion for epoch in head.history if epoch.criterion is not None)
    np.testing.assert_allclose(negative_log_likelihood(head.logits(x), y), best, atol=1e-6)


def test_a_criterion_that_is_not_finite_never_wins() -> None:
    values = iter([nan, 5.0, -np.inf, nan])

    def scripted(logits: npt.NDArray[np.float64], labels: npt.NDArray[np.integer]) -> float:
        return next(values)

    x, y = _xor()
    head = MlpHead.fit(
        x, y, select=(x, y), n_classes=2, recipe=Recipe(hidden=4, epochs=4), criterion=scripted
    )
    assert [epoch.criterion for epoch in head.history] == [None, 5.0, None, None]
    with pytest.raises(DataError, match="the criterion was never finite on the select rows in 2"):
        MlpHead.fit(
            x, y, select=(x, y), n_classes=2, recipe=Recipe(hidden=4, epochs=2),
            criterion=lambda z, y: nan,
        )  # fmt: skip


def test_a_loss_that_explodes_is_refused_with_its_place() -> None:
    recipe = Recipe(hidden=8, epochs=5, learning_rate=1e30, batch_size=100)
    with pytest.raises(DataError) as error:
        MlpHead.fit(*_xor(), select=_xor(), n_classes=2, recipe=recipe)
    assert str(error.value) == (
        "the training loss became nan in epoch 1, batch 2 (step 2); "
        "lower the learning rate (1e+30)."
    )


def test_outputs_that_overflow_are_not_judged_and_end_in_the_same_refusal() -> None:
    seen: list[Any] = []

    def criterion(logits: Any, labels: Any) -> float:
        seen.append(logits)
        return negative_log_likelihood(logits, labels)

    recipe = Recipe(
        hidden=8, epochs=5, learning_rate=1e38, batch_size=1000, optimizer="sgd", averaging=None
    )
    with pytest.raises(DataError, match="the training loss became nan in epoch 2, batch 1"):
        MlpHead.fit(*_xor(), select=_xor(), n_classes=2, recipe=recipe, criterion=criterion)
    assert not seen


def _last_epoch() -> Callable[[object, object], float]:
    """A criterion by which every epoch is better than the one before."""
    values = iter(range(1000))
    return lambda logits, labels: -next(values)


def _mean_rare(class_weights: Literal["balanced"] | None) -> float:
    rng = np.random.default_rng(0)
    y = (rng.random(1000) < 0.05).astype(np.int64)
    x = rng.normal(size=(1000, 1)) + y[:, np.newaxis]
    recipe = Recipe(
        hidden=8, epochs=15, batch_size=50, learning_rate=1e-2, class_weights=class_weights
    )
    head = MlpHead.fit(x, y, select=(x, y), n_classes=2, recipe=recipe, criterion=_last_epoch())
    return float(softmax(head.logits(x))[:, 1].mean())


def test_balanced_weights_lift_the_rare_class() -> None:
    assert _mean_rare(None) == pytest.approx(0.05, abs=0.03)
    assert _mean_rare("balanced") > 0.3


def test_a_class_without_rows_is_all_but_impossible_and_finite() -> None:
    x, y = _xor()
    recipe = Recipe(hidden=8, epochs=2)
    head = MlpHead.fit(x, 2 * y, select=(x, 2 * y), n_classes=4, recipe=recipe)
    z = head.logits(x)
    assert z[:, [0, 2]].max(axis=1).min() >= 0
    assert softmax(z)[:, [1, 3]].max() < 2e-22
    np.testing.assert_array_equal(
        z[:, [0, 2]],
        MlpHead.fit(x, y, select=(x, y), n_classes=2, recipe=recipe).logits(x),
    )


def test_a_batch_larger_than_the_data_is_one_step_per_epoch() -> None:
    x, y = _xor(20)
    head = MlpHead.fit(
        x, y, select=(x, y), n_classes=2, recipe=Recipe(hidden=4, epochs=1, batch_size=512)
    )
    assert head.history[0].learning_rate == 1e-3


def _trained_on_nothing(weight_decay: float) -> MlpHead:
    x, y = np.zeros((40, 2)), np.array([0, 1] * 20)
    recipe = Recipe(
        hidden=4, epochs=30, batch_size=10, learning_rate=1e-2, weight_decay=weight_decay
    )
    return MlpHead.fit(x, y, select=(x, y), n_classes=2, recipe=recipe, criterion=_last_epoch())


def test_weight_decay_shrinks_weights_but_not_biases() -> None:
    free, decayed = _trained_on_nothing(0.0), _trained_on_nothing(10.0)
    (free_w, free_b), (decayed_w, decayed_b) = free.network.layers[0], decayed.network.layers[0]
    assert np.abs(decayed_w).max() < 0.01 * np.abs(free_w).max()
    assert np.abs(decayed_b).max() > 0.5 * np.abs(free_b).max()


def test_an_artifact_comes_back_exactly_and_damage_is_refused() -> None:
    head = _fit()
    document, tensors = head.to_artifact()
    back = heads.load(document, tensors)
    assert isinstance(back, MlpHead)
    np.testing.assert_array_equal(back.logits(_xor()[0]), head.logits(_xor()[0]))
    assert (back.recipe, back.history, back.n_train) == (head.recipe, head.history, 400)
    with pytest.raises(ArtifactError, match=r"'weights1' of the mlp head must have shape \(2, 16"):
        heads.load(document, {**tensors, "weights1": np.zeros((3, 16))})
    with pytest.raises(ArtifactError, match="document of the mlp head lacks 'history'"):
        heads.load({**document, "training": {}}, tensors)
    damaged = {**document["training"], "history": [{"epoch": 1}]}
    with pytest.raises(ArtifactError, match="document of the mlp head is malformed"):
        heads.load({**document, "training": damaged}, tensors)


def test_an_artifact_of_the_first_release_is_read() -> None:
    document, tensors = _fit().to_artifact()
    first = {
        "hidden": 16, "epochs": 3, "learning_rate": 1e-3, "weight_decay": 1e-2, "batch_size": 64,
        "patience": 10, "class_weights": None, "seed": 0, "n_train": 400,
        "history": [{"epoch": 1, "train_loss": 0.7, "criterion": 0.7, "learning_rate": 1e-3}],
    }  # fmt: skip
    back = heads.load({**document, "training": first}, tensors)
    assert isinstance(back, MlpHead)
    np.testing.assert_array_equal(back.logits(_xor()[0]), _fit().logits(_xor()[0]))
    assert back.recipe == Recipe(hidden=16, epochs=3, batch_size=64)
    assert back.history == (Epoch(1, 0.7, 0.7, 1e-3),)
