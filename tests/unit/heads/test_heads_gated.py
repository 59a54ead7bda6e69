"""Heads with a gate: numpy answers as torch, the gate learns, artifacts come back."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from selectkit import heads
from selectkit.errors import ArtifactError
from selectkit.heads import (
    AbstainHead,
    Gamblers,
    Recipe,
    SelectiveNet,
    SelfAdaptive,
    ThreeHead,
    negative_log_likelihood,
)

Data = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]
THREE = Recipe(hidden=16, epochs=20, batch_size=128, learning_rate=1e-2, loss=SelectiveNet(0.7))
SELF_ADAPTIVE = Recipe(
    hidden=16, epochs=20, batch_size=128, learning_rate=1e-2, loss=SelfAdaptive(), patience=20
)
GAMBLERS = Recipe(
    hidden=16, epochs=20, batch_size=128, learning_rate=1e-2, loss=Gamblers(1.3, pretrain=5),
    patience=20,
)  # fmt: skip
KINDS: list[tuple[Any, Recipe]] = [
    (ThreeHead, THREE),
    (AbstainHead, SELF_ADAPTIVE),
    (AbstainHead, GAMBLERS),
]
each = pytest.mark.parametrize(
    ("head", "recipe"), KINDS, ids=["selective", "self-adaptive", "gamblers"]
)


def _half_noise(n: int = 1500, seed: int = 0) -> Data:
    """Where the second feature is positive the label is a coin, elsewhere the first one's sign."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, size=(n, 3))
    coin = rng.integers(0, 2, n)
    return x, np.where(x[:, 1] > 0, coin, x[:, 0] > 0).astype(np.int64)


def _last_epoch() -> Any:
    values = iter(range(1000))
    return lambda logits, labels, gate: -next(values)


def _fit(head: Any, recipe: Recipe, data: Data | None = None, n_classes: int = 2) -> Any:
    train = data or _half_noise()
    return head.fit(
        *train, select=train, n_classes=n_classes, recipe=recipe, criterion=_last_epoch()
    )


@each
def test_the_gate_learns_where_the_label_can_be_known(head: Any, recipe: Recipe) -> None:
    fitted = _fit(head, recipe)
    x, y = _half_noise(seed=2)
    gate = fitted.gate_logits(x)
    known = x[:, 1] < 0
    auroc = (gate[known][:, None] > gate[~known][None]).mean()
    assert auroc > 0.9
    best = np.argsort(-gate)[: len(x) // 3]
    assert (fitted.logits(x).argmax(axis=1) == y)[best].mean() > 0.93


def test_coverage_reaches_its_target_and_no_more_than_it_must() -> None:
    history = _fit(ThreeHead, THREE).history
    assert history[-1].parts["coverage"] == pytest.approx(0.7, abs=0.08)
    assert history[-1].parts["selective_risk"] < history[-1].parts["auxiliary"]


def test_the_risk_aware_term_gives_up_coverage_for_risk() -> None:
    loose, tight = (
        _fit(
            ThreeHead,
            Recipe(
                hidden=16, epochs=20, batch_size=128, learning_rate=1e-2, patience=20,
                loss=SelectiveNet(0.9, risk_target=target, risk_penalty=300.0),
            ),
        ).history[-1]
        for target in (None, 0.05)
    )  # fmt: skip
    assert tight.parts["soft_error"] < loose.parts["soft_error"] - 0.02
    assert tight.parts["coverage"] < loose.parts["coverage"]


@each
def test_numpy_outputs_are_those_of_torch(head: Any, recipe: Recipe) -> None:
    fitted = _fit(head, recipe)
    x = _half_noise(seed=3)[0]
    network = fitted.network
    z = torch.from_numpy((x - network.mean) / network.scale)
    (w1, b1), (w2, b2) = ((torch.from_numpy(w), torch.from_numpy(b)) for w, b in network.layers)
    outputs = torch.nn.functional.gelu(z @ w1 + b1) @ w2 + b2
    np.testing.assert_allclose(fitted.logits(x), outputs[:, :2].numpy(), atol=1e-10)
    if head is ThreeHead:
        expected = outputs[:, 2]
        np.testing.assert_allclose(fitted.outputs(x)[2], outputs[:, 3:].numpy(), atol=1e-10)
    else:
        p = outputs.softmax(dim=1)[:, -1]
        expected = torch.log1p(-p) - torch.log(p)
    np.testing.assert_allclose(fitted.gate_logits(x), expected.numpy(), atol=1e-8)


@each
def test_the_criterion_sees_logits_labels_and_gate_of_the_shipped_weights(
    head: Any, recipe: Recipe
) -> None:
    x, y = _half_noise(200)
    seen: list[tuple[npt.NDArray[np.float64], ...]] = []

    def criterion(*given: npt.NDArray[np.float64]) -> float:
        seen.append(given)
        return -len(seen)

    fitted = head.fit(
        *_half_noise(), select=(x, y), n_classes=2, recipe=recipe, criterion=criterion
    )
    logits, labels, gate = seen[-1]
    np.testing.assert_array_equal(labels, y)
    np.testing.assert_allclose(fitted.logits(x), logits, atol=1e-5)
    np.testing.assert_allclose(fitted.gate_logits(x), gate, atol=1e-5)


@each
def test_an_artifact_comes_back_exactly(head: Any, recipe: Recipe) -> None:
    fitted = _fit(head, recipe)
    document, tensors = fitted.to_artifact()
    back = heads.load(document, tensors)
    assert isinstance(back, head)
    x = _half_noise()[0]
    np.testing.assert_array_equal(back.logits(x), fitted.logits(x))
    np.testing.assert_array_equal(back.gate_logits(x), fitted.gate_logits(x))
    assert back.recipe == recipe
    with pytest.raises(ArtifactError, match=f"'weights2' of the {head.kind} head must have shape"):
        heads.load(document, {**tensors, "weights2": np.zeros((16, 2))})
    with pytest.raises(ArtifactError, match=f"document of the {head.kind} head is malformed"):
        heads.load({**document, "training": {**document["training"], "loss": {}}}, tensors)


@each
@pytest.mark.parametrize("hidden", [None, 8])
def test_a_class_without_rows_changes_nothing_but_its_own_logit(
    head: Any, recipe: Recipe, hidden: int | None
) -> None:
    x, y = _half_noise(300)
    short = Recipe(hidden=hidden, epochs=2, loss=recipe.loss)
    wide = _fit(head, short, (x, 2 * y), n_classes=4)
    narrow = _fit(head, short, (x, y))
    np.testing.assert_allclose(wide.logits(x)[:, [0, 2]], narrow.logits(x), atol=1e-12)
    assert (wide.logits(x)[:, [1, 3]] == -50).all()
    np.testing.assert_allclose(wide.gate_logits(x), narrow.gate_logits(x), atol=1e-12)


@each
def test_each_row_is_answered_the_same_alone_or_in_company(head: Any, recipe: Recipe) -> None:
    fitted, x = _fit(head, recipe), _half_noise(200)[0]
    np.testing.assert_array_equal(fitted.gate_logits(x[[5]]), fitted.gate_logits(x)[[5]])


@each
def test_the_default_criterion_is_the_likelihood_of_the_classes(head: Any, recipe: Recipe) -> None:
    x, y = _half_noise(seed=1)
    fitted = head.fit(*_half_noise(), select=(x, y), n_classes=2, recipe=recipe)
    best = min(epoch.criterion for epoch in fitted.history)
    assert negative_log_likelihood(fitted.logits(x), y) == pytest.approx(best, abs=1e-5)
