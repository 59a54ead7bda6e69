"""Training through the conformal step: thresholds, gradients, unusable batches, starts."""

from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from selectkit.errors import ConfigError, DataError
from selectkit.heads import (
    ConformalRisk,
    ConformalSets,
    Epoch,
    LinearHead,
    MlpHead,
    Recipe,
    ThreeHead,
    fit_many,
    hidden_of,
    load,
    starting_network,
)
from selectkit.heads.starting import weights_under
from selectkit.heads.training.batches import Scaling
from selectkit.heads.training.conformal_thresholds import (
    allowed_misses,
    implicit_threshold,
    order_threshold,
    rows_needed,
)
from selectkit.heads.training.losses import Batch, loss_from_dict, numbers_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Loss = ConformalRisk | ConformalSets
M, H = 3, 1e-6
RISK, SETS = ConformalRisk(alpha=0.2), ConformalSets(alpha=0.2)
LOSSES: list[Loss] = [
    RISK,
    replace(RISK, alpha=0.45, positive=2, temperature=0.3),
    replace(RISK, objective="deferral"),
    SETS,
    replace(SETS, kappa=0, size_weight=0.3, temperature=0.5),
]


@pytest.mark.parametrize("alpha", ["0.01", "0.02", "0.05", "0.1", "0.3", "0.57", "0.9"])
def test_the_budget_is_that_of_conformal_risk_control(alpha: str) -> None:
    exact = Fraction(alpha)
    for n in range(400):
        fitting = [k for k in range(n + 1) if Fraction(k + 1, n + 1) <= exact]
        assert allowed_misses(n, float(alpha)) == (fitting[-1] if fitting else -1)
    needed = rows_needed(float(alpha))
    assert allowed_misses(needed, float(alpha)) >= 0
    assert needed == 1 or allowed_misses(needed - 1, float(alpha)) == -1


def test_the_threshold_of_that_rank_is_the_largest_that_conformal_risk_control_allows() -> None:
    rng = np.random.default_rng(0)
    for n in (19, 20, 57, 200):
        scores = rng.normal(size=n)
        t = float(order_threshold(torch.from_numpy(scores)[:, None], allowed_misses(n, 0.05)))
        assert (1 + (scores < t).sum()) / (n + 1) <= 0.05
        above = np.nextafter(t, np.inf)
        assert (1 + (scores < above).sum()) / (n + 1) > 0.05


def test_an_order_statistic_and_its_window_have_the_gradient_of_their_rows() -> None:
    scores = np.random.default_rng(1).normal(size=(11, M))
    for rank, width, taken in ((4, 0, 1), (4, 2, 5), (1, 3, 3), (0, 2, 1), (10, 4, 1)):
        free = torch.from_numpy(scores).requires_grad_()
        t = order_threshold(free, rank, width)
        half = (taken - 1) // 2
        window = np.sort(scores, axis=0)[rank - half : rank + half + 1]
        np.testing.assert_allclose(t.detach().numpy(), window.mean(axis=0))
        (gradient,) = torch.autograd.grad(t.sum(), free)
        naive = _differences(partial(_order_sum, rank=rank, width=width), scores)
        np.testing.assert_allclose(gradient.numpy(), naive, atol=1e-7)
        assert ((gradient > 0).sum(dim=0) == taken).all()


def test_the_implicit_threshold_solves_its_equation_and_has_its_gradient() -> None:
    scores = np.random.default_rng(2).normal(size=(30, M))
    free = torch.from_numpy(scores).requires_grad_()
    t = _smooth(free, 4.5)
    total = (1 / (1 + np.exp(-(t.detach().numpy() - scores) / 0.2))).sum(axis=0)
    np.testing.assert_allclose(total, 4.5, atol=1e-9)
    (gradient,) = torch.autograd.grad(t.sum(), free)
    naive = _differences(lambda s: float(_smooth(torch.from_numpy(s), 4.5).sum()), scores)
    np.testing.assert_allclose(gradient.numpy(), naive, atol=1e-6)
    np.testing.assert_allclose(gradient.sum(dim=0).numpy(), 1)  # moving all scores moves it


def test_a_threshold_at_an_end_has_no_gradient_and_a_flat_one_a_finite_gradient() -> None:
    free = torch.zeros((5, 1), dtype=torch.float64, requires_grad=True)
    for budget, end in ((-1.0, -10.0), (6.0, 10.0)):
        t = _smooth(free, budget)
        assert float(t.detach()) == pytest.approx(end)
        (gradient,) = torch.autograd.grad(t.sum(), free)
        assert (gradient == 0).all()
    far = torch.tensor([[-1e4], [1e4]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(_smooth(far, 1.0).sum(), far)
    assert torch.isfinite(gradient).all()


def test_the_smooth_threshold_becomes_the_order_statistic() -> None:
    scores = torch.from_numpy(np.random.default_rng(3).normal(size=(50, 1)))
    hard = float(order_threshold(scores, 7))
    off = [abs(float(_smooth(scores, 7.5, width)) - hard) for width in (0.3, 0.03, 0.0003)]
    assert off[0] > off[1] > off[2]
    assert off[2] < 1e-4


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_a_loss_equals_its_formula_and_its_gradient_the_difference(loss: Loss) -> None:
    rng = np.random.default_rng(4)
    z, y = rng.normal(size=(40, M, 3)), rng.integers(0, 3, 40)
    free = torch.from_numpy(z).requires_grad_()
    value = _value(loss, free, y)
    naive = [_naive(loss, z[:, m], y) for m in range(M)]
    np.testing.assert_allclose(value.detach().numpy(), naive, rtol=1e-6)
    (gradient,) = torch.autograd.grad(value.sum(), free)
    differences = _differences(lambda s: float(_value(loss, torch.from_numpy(s), y).sum()), z)
    np.testing.assert_allclose(gradient.numpy(), differences, atol=1e-6)
    assert (gradient.abs().sum(dim=(0, 2)) > 0).all()


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_constant_and_extreme_outputs_give_finite_losses_and_gradients(loss: Loss) -> None:
    y = np.arange(60) % 3
    for z in (np.zeros((60, 1, 3)), 1e4 * np.eye(3)[y][:, None], -1e4 * np.eye(3)[y][:, None]):
        free = torch.from_numpy(z).requires_grad_()
        value = _value(loss, free, y)
        (gradient,) = torch.autograd.grad(value.sum(), free)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient).all()


def test_a_batch_without_a_threshold_or_without_rows_to_judge_is_not_usable() -> None:
    risk = ConformalRisk(alpha=0.25)  # three positives
    assert risk.usable(torch.tensor([1, 1, 1, 0, 0, 0]))
    assert not risk.usable(torch.tensor([1, 1, 0, 0, 0, 0]))
    assert not risk.usable(torch.tensor([1, 1, 1, 1, 1, 1]))
    assert replace(risk, objective="deferral").usable(torch.tensor([1, 1, 1, 1, 1, 1]))
    assert not risk.usable(torch.tensor([0, 0, 0, 1, 1, 1]))
    assert not risk.usable(torch.tensor([], dtype=torch.int64))
    assert ConformalSets(alpha=0.25).usable(torch.zeros(6, dtype=torch.int64))
    assert not ConformalSets(alpha=0.25).usable(torch.zeros(5, dtype=torch.int64))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConformalRisk(alpha=1.0), r"alpha must be in \(0, 1\), got 1.0"),
        (lambda: ConformalRisk(temperature=0.0), "temperature must be positive"),
        (lambda: ConformalRisk(positive=-1), "positive must be at least 0"),
        (lambda: ConformalRisk(objective="tpr"), "'fpr' or 'deferral', got 'tpr'"),  # type: ignore[arg-type]
        (lambda: ConformalSets(kappa=2), "kappa must be 0 or 1, got 2"),  # type: ignore[arg-type]
        (lambda: ConformalSets(size_weight=-1.0), "size_weight must be at least 0"),
    ],
)
def test_settings_out_of_range(make: Callable[[], Loss], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_losses_survive_the_round_trip(loss: Loss) -> None:
    assert loss_from_dict({"kind": loss.kind, **asdict(loss)}) == loss


# --- training ---------------------------------------------------------------------------------


def _rows(n: int = 300, seed: int = 0, k: int = 2) -> tuple[Floats, Ints]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    return rng.normal(size=(n, 4)) + 1.5 * np.eye(4)[y], y


BASE = Recipe(hidden=None, epochs=6, batch_size=100, learning_rate=1e-2, patience=6)


def _fit(loss: Loss, start: Any = None, k: int = 2, **changes: Any) -> MlpHead:
    x, y = _rows(k=k)
    return MlpHead.fit(
        x, y, select=_rows(seed=1, k=k), n_classes=k, start=start,
        recipe=replace(BASE, loss=loss, **changes),
    )  # fmt: skip


@pytest.mark.parametrize("loss", [RISK, SETS], ids=repr)
@pytest.mark.parametrize("hidden", [None, 5])
def test_equal_arguments_give_equal_heads_that_are_stored_like_any_other(
    loss: Loss, hidden: int | None
) -> None:
    one, two = _fit(loss, hidden=hidden), _fit(loss, hidden=hidden)
    document, tensors = one.to_artifact()
    again = two.to_artifact()
    assert document == again[0]
    assert {n: t.tobytes() for n, t in tensors.items()} == {
        n: t.tobytes() for n, t in again[1].items()
    }
    assert document["training"]["loss"] == {"kind": loss.kind, **asdict(loss)}
    read = load(document, tensors)
    x = _rows(seed=2)[0]
    assert isinstance(read, MlpHead)
    assert (read.logits(x) == one.logits(x)).all()
    assert read.recipe.loss == loss
    assert "threshold" in one.history[0].parts


def test_batches_that_give_nothing_take_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    start = starting_network(_fit(ConformalRisk(alpha=0.2)))
    sometimes = _fit(ConformalRisk(alpha=0.2), start, batch_size=290)  # then 10 rows
    assert all(np.isfinite(e.train_loss) and e.train_loss > 0 for e in sometimes.history)
    monkeypatch.setattr(ConformalRisk, "require_feasible", lambda *_: None)
    never = _fit(ConformalRisk(alpha=0.01), start)
    x = _rows(seed=2)[0]
    np.testing.assert_allclose(never.logits(x), start.outputs(x), atol=1e-5)
    assert {e.train_loss for e in never.history} == {0.0}


def test_rows_that_cannot_do_are_refused_with_the_number_that_would() -> None:
    with pytest.raises(ConfigError, match=r"needs 49 positives in half a batch; half of 100 rows"):
        _fit(ConformalRisk(alpha=0.02))
    enough = r"train has 1\d\d in all. Label \d\d more"
    with pytest.raises(ConfigError, match=rf"needs 99 positives in half a batch, and {enough}"):
        _fit(ConformalRisk(alpha=0.01))
    with pytest.raises(ConfigError, match=r"needs 99 rows in half a batch; .* size of 248\."):
        _fit(ConformalSets(alpha=0.01))
    _fit(ConformalSets(alpha=0.01), batch_size=248)
    with pytest.raises(ConfigError, match="conformal_sets looks at a batch as a whole"):
        _fit(SETS, accumulation=2)
    x, y = _rows()
    with pytest.raises(ConfigError, match="three head is trained with selective_net, not conf"):
        ThreeHead.fit(x, y, select=(x, y), n_classes=2, recipe=replace(BASE, loss=RISK))


def test_the_positive_class_is_counted_among_the_classes_of_train() -> None:
    x, y = _rows(k=3)
    some = y != 1

    def fit(loss: ConformalRisk) -> MlpHead:
        return MlpHead.fit(
            x[some], y[some], select=_rows(seed=1, k=3), n_classes=3,
            recipe=replace(BASE, loss=loss),
        )  # fmt: skip

    head = fit(replace(RISK, positive=2))
    assert head.recipe.loss == replace(RISK, positive=2)
    two = MlpHead.fit(
        x[some], y[some] // 2, select=_only(*_rows(seed=1, k=3)), n_classes=2,
        recipe=replace(BASE, loss=RISK),
    )  # fmt: skip
    np.testing.assert_allclose(head.logits(x)[:, [0, 2]], two.logits(x))
    with pytest.raises(DataError, match="train has no row of the positive class 1"):
        fit(RISK)


def _only(x: Floats, y: Ints) -> tuple[Floats, Ints]:
    return x[y != 1], y[y != 1] // 2


@pytest.mark.parametrize("hidden", [None, 5])
def test_a_start_that_no_epoch_improves_on_is_kept(hidden: int | None) -> None:
    x, y = _rows()
    start = MlpHead.fit(x, y, select=(x, y), n_classes=2, recipe=replace(BASE, hidden=hidden))
    calls: list[float] = []

    def worse_and_worse(*_: Any) -> float:
        calls.append(float(len(calls)))
        return calls[-1]

    kept = MlpHead.fit(
        x, y, select=(x, y), n_classes=2, start=starting_network(start),
        recipe=replace(BASE, hidden=hidden, loss=RISK, patience=3), criterion=worse_and_worse,
    )  # fmt: skip
    assert len(kept.history) == 3  # the start, then three epochs
    np.testing.assert_allclose(kept.logits(x), start.logits(x), atol=1e-5)


@pytest.mark.parametrize("averaging", [None, "warm-up", "bias-corrected"])
def test_one_small_step_stays_near_the_start(averaging: Any) -> None:
    x, y = _rows()
    linear = LinearHead.fit(x, y, select=(x, y), n_classes=2)
    near = MlpHead.fit(
        2 * x + 1, y, select=(2 * x + 1, y), n_classes=2,
        start=replace(starting_network(linear), mean=2 * linear.mean + 1, scale=2 * linear.scale),
        recipe=replace(BASE, loss=RISK, epochs=1, learning_rate=1e-6, averaging=averaging),
        criterion=lambda *_: -1.0,
    )  # fmt: skip
    np.testing.assert_allclose(near.logits(2 * x + 1), linear.logits(x), atol=1e-3)


def test_weights_are_carried_over_to_another_standardisation() -> None:
    x, y = _rows(k=3)
    for hidden in (None, 5):
        head = MlpHead.fit(x, y, select=(x, y), n_classes=3, recipe=replace(BASE, hidden=hidden))
        network = starting_network(head)
        assert hidden_of(network) == hidden
        other = Scaling(np.array([1.0, -2.0, 0.5, 0.0]), np.array([2.0, 0.5, 1.0, 3.0]))
        arrays = weights_under(network, other, np.array([0, 2]))
        layers = tuple(zip(arrays[::2], arrays[1::2], strict=True))
        moved = replace(network, mean=other.mean, scale=other.scale, layers=layers)
        np.testing.assert_allclose(moved.outputs(x), network.outputs(x)[:, [0, 2]], atol=1e-10)


def test_what_cannot_be_started_from() -> None:
    x, y = _rows()
    start = starting_network(_fit(RISK))
    with pytest.raises(ConfigError, match=r"of the fit, \(4, 5, 2\); got \(4, None, 2\)"):
        _fit(RISK, start, hidden=5)
    three = ThreeHead.fit(x, y, select=(x, y), n_classes=2)
    with pytest.raises(ConfigError, match="from a linear or an mlp head, not from three"):
        starting_network(three)


@pytest.mark.parametrize("loss", [RISK, SETS], ids=repr)
def test_an_interrupted_fine_tuning_goes_on(loss: Loss, tmp_path: Path) -> None:
    x, y = _rows()
    starts = [starting_network(_fit(RISK)), starting_network(_fit(RISK, seed=3))]
    path = tmp_path / "c.safetensors"

    def fit(stop: int | None, checkpoint: Path | None) -> list[Any]:
        def on_epoch(_: int, epoch: Epoch) -> None:
            if epoch.epoch == stop:
                raise KeyboardInterrupt

        return fit_many(
            MlpHead, x, y, select=_rows(seed=1), n_classes=2, starts=starts, on_epoch=on_epoch,
            checkpoint=checkpoint,
            recipes=[replace(BASE, loss=replace(loss, temperature=t)) for t in (0.1, 0.3)],
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        fit(3, path)
    for resumed, whole in zip(fit(None, path), fit(None, None), strict=True):
        assert resumed.history == whole.history
        assert (resumed.logits(x) == whole.logits(x)).all()


# --- naive twins ------------------------------------------------------------------------------


def _differences(value: Callable[[Floats], float], at: Floats) -> Floats:
    out = np.zeros_like(at)
    for i in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[i] = H
        out[i] = (value(at + step) - value(at - step)) / (2 * H)
    return out


def _order_sum(scores: Floats, rank: int, width: int) -> float:
    return float(order_threshold(torch.from_numpy(scores), rank, width).sum())


def _smooth(scores: torch.Tensor, budget: float, width: float = 0.2) -> torch.Tensor:
    ends = scores.new_full((scores.shape[1],), 10.0)
    return implicit_threshold(lambda t: ((t - scores) / width).sigmoid(), -ends, ends, budget)


def _value(loss: Loss, outputs: torch.Tensor, y: Ints) -> torch.Tensor:
    numbers = numbers_of([loss] * outputs.shape[1], outputs)
    terms = loss.terms(numbers, Batch(outputs, torch.from_numpy(y)))
    return loss.combine(numbers, torch.stack([t.mean(dim=0) for t in terms]))


def _sigma(u: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-u)))


def _naive(loss: Loss, z: Floats, y: Ints) -> float:
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    half, width = len(y) // 2, loss.temperature
    if isinstance(loss, ConformalRisk):
        own = np.sort(p[:half][y[:half] == loss.positive, loss.positive])
        k = int(np.floor(loss.alpha * (len(own) + 1) - 1 + 1e-9))
        around = [k - 1, k, k + 1] if 0 < k < len(own) - 1 else [k]
        t = own[around].mean()
        s, labels = p[half:, loss.positive], y[half:]
        if loss.objective == "fpr":
            return float(_sigma((s[labels != loss.positive] - t) / width).mean())
        return float((_sigma((s - t) / width) * _sigma((1 - t - s) / width)).mean())
    own = np.log(p[np.arange(half), y[:half]])
    k = int(np.floor(loss.alpha * (half + 1) - 1 + 1e-9))
    low, high = -100.0, 100.0
    for _ in range(80):
        tau = (low + high) / 2
        over = _sigma((tau - own) / width).sum() > k + 0.5
        low, high = (low, tau) if over else (tau, high)
    c = _sigma((np.log(p[half:]) - tau) / width)
    lost = 1 - c[np.arange(len(y) - half), y[half:]].mean()
    return float(np.log(lost + loss.size_weight * np.maximum(0, c.sum(1) - loss.kappa).mean()))
