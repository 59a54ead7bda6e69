"""Configurations trained together are those trained alone; each fails and stops by itself."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selectkit.errors import ConfigError, DataError
from selectkit.heads import (
    AbstainHead,
    CrossEntropy,
    Epoch,
    Focal,
    Gamblers,
    MlpHead,
    Recipe,
    SelectiveNet,
    SelfAdaptive,
    Sharpness,
    ThreeHead,
    fit_many,
)
from selectkit.heads.training import memory

Data = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


def _data(n: int = 300, seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    return x, (x @ rng.normal(size=(5, 3)) + rng.normal(size=(n, 3))).argmax(axis=1)


BASE = Recipe(hidden=7, epochs=6, batch_size=64, learning_rate=1e-2, patience=2)
SELECTIVE = [replace(BASE, loss=SelectiveNet(coverage=c, penalty=16)) for c in (0.7, 0.9, 1.0)]
SWEEPS: dict[str, tuple[Any, list[Recipe]]] = {
    "seeds": (MlpHead, [replace(BASE, seed=s) for s in range(4)]),
    "rates and decays": (
        MlpHead,
        [replace(BASE, learning_rate=r, weight_decay=d) for r in (1e-3, 3e-2) for d in (0.0, 1.0)],
    ),
    "linear": (MlpHead, [replace(BASE, hidden=None, seed=s, learning_rate=0.1**s) for s in (1, 2)]),
    "smoothing": (MlpHead, [replace(BASE, loss=CrossEntropy(s)) for s in (0.0, 0.1, 0.3)]),
    "focal, balanced": (
        MlpHead,
        [replace(BASE, loss=Focal(g), class_weights="balanced") for g in (0.0, 1.0, 3.0)],
    ),
    "sgd, clipped": (
        MlpHead,
        [replace(BASE, optimizer="sgd", clip=c, patience=p) for c, p in ((0.1, 1), (1.0, 9))],
    ),
    "lion, sharp": (
        MlpHead,
        [
            replace(BASE, optimizer="lion", learning_rate=1e-3, sharpness=Sharpness(rho, sigma))
            for rho, sigma in ((0.05, 1.0), (0.2, 0.0))
        ],
    ),
    "bias-corrected": (
        MlpHead,
        [replace(BASE, averaging="bias-corrected", seed=s) for s in range(2)],
    ),
    "coverages": (ThreeHead, SELECTIVE),
    "coverages in parts": (ThreeHead, [replace(r, accumulation=3) for r in SELECTIVE]),
    "payoffs": (AbstainHead, [replace(BASE, loss=Gamblers(payoff=o)) for o in (1.2, 2.5)]),
    "targets": (
        AbstainHead,
        [replace(BASE, loss=SelfAdaptive(m, e)) for m, e in ((0.9, 0.0), (0.5, 0.01))],
    ),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_together_is_as_one_by_one(name: str) -> None:
    head, recipes = SWEEPS[name]
    data: Any = {"select": _data(seed=1), "n_classes": 3}
    together: list[Any] = fit_many(head, *_data(), recipes=recipes, **data)
    for recipe, fitted in zip(recipes, together, strict=True):
        alone = head.fit(*_data(), recipe=recipe, **data)
        assert fitted.recipe == recipe
        assert len(fitted.history) == len(alone.history)
        x = _data(seed=2)[0]
        np.testing.assert_allclose(fitted.logits(x), alone.logits(x), atol=1e-5)
        for one, two in zip(fitted.history, alone.history, strict=True):
            assert one.train_loss == pytest.approx(two.train_loss, abs=1e-5)
            assert set(one.parts) == set(two.parts)


def test_a_batch_in_parts_is_the_whole_batch() -> None:
    """Also where the loss is no mean over rows: coverage penalties, class weights, soft targets."""
    recipes = [
        (ThreeHead, replace(BASE, loss=SelectiveNet(risk_target=0.1), class_weights="balanced")),
        (AbstainHead, replace(BASE, loss=SelfAdaptive(0.5), sharpness=Sharpness())),
        (MlpHead, BASE),
    ]
    for head, recipe in recipes:
        kind: Any = head
        whole, parts = (
            kind.fit(
                *_data(), select=_data(seed=1), n_classes=3, recipe=replace(recipe, accumulation=a)
            )
            for a in (1, 3)
        )
        np.testing.assert_allclose(parts.logits(_data()[0]), whole.logits(_data()[0]), atol=1e-5)


def test_configurations_of_different_structure_come_back_in_the_order_given() -> None:
    recipes = [
        BASE, replace(BASE, hidden=3), replace(BASE, seed=1), replace(BASE, hidden=None),
        replace(BASE, optimizer="sgd"), replace(BASE, hidden=3, seed=1),
    ]  # fmt: skip
    told: dict[int, list[int]] = {}

    def on_epoch(i: int, epoch: Epoch) -> None:
        told.setdefault(i, []).append(epoch.epoch)

    heads = fit_many(
        MlpHead, *_data(), select=_data(seed=1), n_classes=3, recipes=recipes, on_epoch=on_epoch
    )
    for i, (recipe, head) in enumerate(zip(recipes, heads, strict=True)):
        assert isinstance(head, MlpHead)
        assert head.recipe == recipe
        assert told[i] == [epoch.epoch for epoch in head.history]


def test_each_configuration_stops_by_its_own_patience() -> None:
    values = iter([3.0, 9.0, 2.0, 8.0, 4.0, 7.0, 5.0, 6.0, 5.0, 4.0])  # the second alone at the end

    def criterion(logits: npt.NDArray[np.float64], labels: npt.NDArray[np.integer]) -> float:
        return next(values)

    recipes = [replace(BASE, seed=s) for s in range(2)]
    one, two = fit_many(
        MlpHead, *_data(), select=_data(seed=1), n_classes=3, recipes=recipes, criterion=criterion
    )
    assert isinstance(one, MlpHead)
    assert isinstance(two, MlpHead)
    assert [e.criterion for e in one.history] == [3.0, 2.0, 4.0, 5.0]
    assert [e.criterion for e in two.history] == [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]


def test_one_that_explodes_is_an_error_in_its_place_and_harms_no_other() -> None:
    recipes = [replace(BASE, learning_rate=r) for r in (1e-2, 1e30, 1e-3)]
    heads = fit_many(MlpHead, *_data(), select=_data(seed=1), n_classes=3, recipes=recipes)
    assert isinstance(heads[1], DataError)
    assert "the training loss became" in str(heads[1])
    assert "in epoch 1, batch" in str(heads[1])
    assert "lower the learning rate (1e+30)" in str(heads[1])
    for i in (0, 2):
        alone = MlpHead.fit(*_data(), select=_data(seed=1), n_classes=3, recipe=recipes[i])
        fitted = heads[i]
        assert isinstance(fitted, MlpHead)
        np.testing.assert_allclose(fitted.logits(_data()[0]), alone.logits(_data()[0]), atol=1e-5)


def test_wide_heads_in_bfloat16_are_the_same_together_and_alone() -> None:
    x = np.random.default_rng(0).normal(size=(200, 1100))
    y = (x[:, :10].sum(axis=1) > 0).astype(np.int64)
    base = Recipe(hidden=256, epochs=2, batch_size=100, precision="bfloat16")
    recipes = [replace(base, seed=s) for s in range(2)]
    heads = fit_many(MlpHead, x, y, select=(x, y), n_classes=2, recipes=recipes)
    for recipe, head in zip(recipes, heads, strict=True):
        assert isinstance(head, MlpHead)
        alone = MlpHead.fit(x, y, select=(x, y), n_classes=2, recipe=recipe)
        np.testing.assert_allclose(head.logits(x), alone.logits(x), atol=1e-5)


def test_the_order_of_rows_is_shared_unless_its_seed_differs() -> None:
    recipes = [replace(BASE, order_seed=s) for s in (0, 1)]
    one, two = fit_many(MlpHead, *_data(), select=_data(seed=1), n_classes=3, recipes=recipes)
    assert isinstance(one, MlpHead)
    assert isinstance(two, MlpHead)
    assert np.abs(one.logits(_data()[0]) - two.logits(_data()[0])).max() > 1e-4


@pytest.mark.parametrize(
    ("head", "recipe", "message"),
    [
        (MlpHead, replace(BASE, loss=Gamblers()), "the mlp head is trained with cross_entropy, fo"),
        (ThreeHead, BASE, "the three head is trained with selective_net, not cross_entropy"),
        (AbstainHead, BASE, "the abstain head is trained with self_adaptive, gamblers, not cross"),
        (
            MlpHead,
            replace(BASE, batch_size=300, sharpness=Sharpness()),
            "Friendly SAM needs mini-batches: the 300 training rows are one batch of 300",
        ),
    ],
)
def test_recipes_that_do_not_fit_are_refused(head: Any, recipe: Recipe, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        head.fit(*_data(), select=_data(seed=1), n_classes=3, recipe=recipe)


def test_plain_sam_may_use_the_whole_batch() -> None:
    recipe = replace(BASE, batch_size=300, sharpness=Sharpness(sigma=0.0))
    assert MlpHead.fit(*_data(), select=_data(seed=1), n_classes=3, recipe=recipe).history


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "meta"])
def test_a_device_that_cannot_be_used_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used here: use 'cpu' or a CUDA device"):
        MlpHead.fit(*_data(), select=_data(seed=1), n_classes=3, recipe=BASE, device=device)


def test_weights_that_no_memory_holds_are_refused_before_anything_is_trained() -> None:
    huge = replace(BASE, hidden=10**15)
    epochs: list[int] = []
    with pytest.raises(ConfigError, match=r"^hidden = 1000000000000000: the weights take 36,000,0"):
        fit_many(
            MlpHead, *_data(), select=_data(seed=1), n_classes=3, recipes=[BASE, huge],
            on_epoch=lambda i, epoch: epochs.append(epoch.epoch),
        )  # fmt: skip
    assert not epochs


def test_room_is_that_of_all_that_is_trained_together(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = replace(BASE, hidden=1000, batch_size=24)
    weights = 4 * (1000 * (5 + 3 + 1) + 3)
    least = 5 * weights + 4 * 1000 * 24  # weights, average, two moments, gradient; slopes
    monkeypatch.setattr(memory, "memory_of", lambda device: 3 * least)
    three, four = ([replace(wide, seed=s) for s in range(n)] for n in (3, 4))
    memory.require_room(three, 5, 3, 300, "cpu")
    with pytest.raises(ConfigError, match="the weights of 4 heads that are trained together take"):
        memory.require_room(four, 5, 3, 300, "cpu")
    lighter = [replace(r, optimizer="sgd", averaging=None) for r in four]
    memory.require_room(lighter, 5, 3, 300, "cpu")
    memory.require_room([replace(r, accumulation=24) for r in four], 5, 3, 300, "cpu")
    memory.require_room([replace(r, hidden=None) for r in four], 10**15, 3, 300, "cpu")
