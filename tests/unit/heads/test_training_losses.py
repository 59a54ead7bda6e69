"""Losses: each against its formula in float64, its gradient numerically, and at extreme outputs."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import logsumexp

from selectkit.errors import ConfigError
from selectkit.heads import CrossEntropy, Focal, Gamblers, Loss, SelectiveNet, SelfAdaptive
from selectkit.heads.training.losses import Batch, loss_from_dict, numbers_of

Floats = npt.NDArray[np.float64]
Reference = Callable[[Any, Floats, npt.NDArray[np.int64], Floats, Floats], float]

B, M, K = 7, 3, 4


def _log_p(z: Floats) -> Floats:
    return np.asarray(z - logsumexp(z, axis=1, keepdims=True))


def _mean(w: Floats, values: Floats) -> float:
    return float((w * values).sum() / w.sum())


def _of(z: Floats, y: npt.NDArray[np.int64]) -> Floats:
    return z[np.arange(len(y)), y]


def _cross_entropy(
    loss: CrossEntropy, z: Floats, y: npt.NDArray[np.int64], w: Floats, q: Floats
) -> float:
    target = np.full(z.shape, loss.smoothing / z.shape[1])
    target[np.arange(len(y)), y] += 1 - loss.smoothing
    return _mean(w, -(target * _log_p(z)).sum(axis=1))


def _focal(loss: Focal, z: Floats, y: npt.NDArray[np.int64], w: Floats, q: Floats) -> float:
    p = np.exp(_log_p(z))
    p[np.arange(len(y)), y] = 0
    return _mean(w, -(p.sum(axis=1) ** loss.gamma) * _of(_log_p(z), y))


def _selective(
    loss: SelectiveNet, z: Floats, y: npt.NDArray[np.int64], w: Floats, q: Floats
) -> float:
    k = z.shape[1] // 2
    g = 1 / (1 + np.exp(-z[:, k]))
    ell = -_of(_log_p(z[:, :k]), y)
    selected = (w * g).sum()
    risk = (w * g * ell).sum() / (selected if loss.normalise else w.sum())
    inner = risk + loss.penalty * max(0, loss.coverage - g.mean()) ** 2
    if loss.risk_target is not None:
        soft = (w * g * (1 - np.exp(-ell))).sum() / selected
        inner += loss.risk_penalty * max(0, soft - loss.risk_target) ** 2
    auxiliary = _mean(w, -_of(_log_p(z[:, k + 1 :]), y))
    return float(loss.alpha * inner + (1 - loss.alpha) * auxiliary)


def _gamblers(loss: Gamblers, z: Floats, y: npt.NDArray[np.int64], w: Floats, q: Floats) -> float:
    log_p = _log_p(z)
    return _mean(w, -np.logaddexp(_of(log_p, y), log_p[:, -1] - np.log(loss.payoff)))


def _self_adaptive(
    loss: SelfAdaptive, z: Floats, y: npt.NDArray[np.int64], w: Floats, q: Floats
) -> float:
    log_p, classes = _log_p(z), _log_p(z[:, :-1])
    entropy = -(np.exp(classes) * classes).sum(axis=1)
    ell = -(q * _of(log_p, y) + (1 - q) * log_p[:, -1]) + loss.entropy * entropy
    return _mean(w, ell)


CASES: list[tuple[Loss, int, Reference]] = [
    (CrossEntropy(), K, _cross_entropy),
    (CrossEntropy(smoothing=0.1), K, _cross_entropy),
    (Focal(gamma=2.0), K, _focal),
    (Focal(gamma=0.5), K, _focal),
    (Focal(gamma=0.0), K, _focal),
    (SelectiveNet(coverage=0.9), 2 * K + 1, _selective),
    (SelectiveNet(coverage=0.9, normalise=False, alpha=0.7), 2 * K + 1, _selective),
    (SelectiveNet(coverage=0.9, risk_target=0.1, risk_penalty=5.0), 2 * K + 1, _selective),
    (Gamblers(payoff=2.2), K + 1, _gamblers),
    (SelfAdaptive(entropy=0.1), K + 1, _self_adaptive),
    (SelfAdaptive(), K + 1, _self_adaptive),
]
named = pytest.mark.parametrize(
    ("loss", "n_outputs", "reference"), CASES, ids=[f"{c[0]}" for c in CASES]
)


def _batch(
    n_outputs: int,
    *,
    spread: float = 2.0,
    dtype: torch.dtype = torch.float64,
    weighted: bool = True,
) -> Batch:
    rng = np.random.default_rng(0)
    return Batch(
        torch.from_numpy(spread * rng.normal(size=(B, M, n_outputs))).to(dtype),
        torch.from_numpy(rng.integers(0, K, B)),
        torch.from_numpy(rng.uniform(0.5, 2, (B, 1))).to(dtype) if weighted else None,
        torch.from_numpy(rng.uniform(0, 1, (B, M))).to(dtype),
    )


def _value(loss: Loss, batch: Batch) -> torch.Tensor:
    numbers = numbers_of([loss] * M, batch.outputs)
    means = torch.stack([t.mean(dim=0) for t in loss.terms(numbers, batch)])
    return loss.combine(numbers, means)


def _expected(loss: Loss, reference: Reference, batch: Batch) -> list[float]:
    z, y = batch.outputs.double().numpy(), batch.labels.numpy()
    w = np.ones(B) if batch.weights is None else batch.weights.double().numpy()[:, 0]
    assert batch.targets is not None
    q = batch.targets.double().numpy()
    return [reference(loss, z[:, m], y, w, q[:, m]) for m in range(M)]


@named
@pytest.mark.parametrize("weighted", [True, False])
def test_it_is_its_formula(
    loss: Loss, n_outputs: int, reference: Reference, weighted: bool
) -> None:
    batch = _batch(n_outputs, weighted=weighted)
    np.testing.assert_allclose(
        _value(loss, batch).numpy(), _expected(loss, reference, batch), rtol=1e-12
    )


@named
def test_its_gradient_is_that_of_its_value(
    loss: Loss, n_outputs: int, reference: Reference
) -> None:
    batch = _batch(n_outputs)
    outputs = batch.outputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: _value(loss, batch._replace(outputs=z)), outputs)


@named
@pytest.mark.parametrize("spread", [1e2, 1e4, 1e30])
def test_extreme_outputs_in_float32_give_the_right_loss_and_a_finite_gradient(
    loss: Loss, n_outputs: int, reference: Reference, spread: float
) -> None:
    batch = _batch(n_outputs, spread=spread, dtype=torch.float32)
    outputs = batch.outputs.requires_grad_()
    value = _value(loss, batch._replace(outputs=outputs))
    with np.errstate(over="ignore"):
        expected = _expected(loss, reference, batch._replace(outputs=outputs.detach()))
    np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-5)
    (slope,) = torch.autograd.grad(value.sum(), outputs)
    assert torch.isfinite(slope).all()


WRITTEN_OUT: dict[str, tuple[CrossEntropy | SelectiveNet, int]] = {
    "cross_entropy": (CrossEntropy(), K),
    "smoothed": (CrossEntropy(0.2), K),
    "selective_net": (SelectiveNet(coverage=0.9), 2 * K + 1),
    "as the code": (SelectiveNet(coverage=0.9, normalise=False), 2 * K + 1),
    "risk-aware": (SelectiveNet(coverage=0.3, risk_target=0.1), 2 * K + 1),
    "as the code, risk-aware": (
        SelectiveNet(coverage=1.0, alpha=1.0, normalise=False, risk_target=0.0), 2 * K + 1
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN_OUT)
@pytest.mark.parametrize("weighted", [True, False])
def test_gradients_that_are_written_out_are_those_of_autograd(name: str, weighted: bool) -> None:
    loss, n_outputs = WRITTEN_OUT[name]
    batch = _batch(n_outputs, weighted=weighted)
    numbers = numbers_of([loss] * M, batch.outputs)
    means, slope = loss.slope(numbers, batch)
    outputs = batch.outputs.clone().requires_grad_()
    value = _value(loss, batch._replace(outputs=outputs))
    (expected,) = torch.autograd.grad(value.sum(), outputs)
    torch.testing.assert_close(loss.combine(numbers, means), value.detach())
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", WRITTEN_OUT)
@pytest.mark.parametrize("spread", [1e2, 1e4, 1e30])
def test_gradients_that_are_written_out_are_finite_at_extremes(name: str, spread: float) -> None:
    loss, n_outputs = WRITTEN_OUT[name]
    batch = _batch(n_outputs, spread=spread, dtype=torch.float32)
    _, slope = loss.slope(numbers_of([loss] * M, batch.outputs), batch)
    assert torch.isfinite(slope).all()


def test_a_gate_that_is_shut_has_the_slope_that_opens_it() -> None:
    batch = _batch(2 * K + 1)
    batch.outputs[..., K] = -30.0  # the coverage is below where it is kept from zero
    loss = SelectiveNet(coverage=0.8)
    _, slope = loss.slope(numbers_of([loss] * M, batch.outputs), batch)
    outputs = batch.outputs.clone().requires_grad_()
    value = _value(loss, batch._replace(outputs=outputs))
    (expected,) = torch.autograd.grad(value.sum(), outputs)
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=0)


def test_configurations_of_one_family_keep_their_own_numbers() -> None:
    batch = _batch(2 * K + 1)
    losses: list[Loss] = [
        SelectiveNet(coverage=c, penalty=p) for c, p in ((0.7, 32), (1.0, 1), (0.95, 9))
    ]
    numbers = numbers_of(losses, batch.outputs)
    means = torch.stack([t.mean(dim=0) for t in losses[0].terms(numbers, batch)])
    together = losses[0].combine(numbers, means)
    alone = [_value(loss, batch)[m] for m, loss in enumerate(losses)]
    torch.testing.assert_close(together, torch.stack(alone))


def test_a_closed_gate_costs_the_whole_penalty_and_no_nan() -> None:
    batch = _batch(2 * K + 1, dtype=torch.float32)
    batch.outputs[..., K] = -1e4
    outputs = batch.outputs.requires_grad_()
    loss = SelectiveNet(coverage=0.8, alpha=1.0)
    value = _value(loss, batch._replace(outputs=outputs))
    torch.testing.assert_close(value.detach(), torch.full((M,), 32 * 0.8**2))
    assert torch.isfinite(torch.autograd.grad(value.sum(), outputs)[0]).all()


def test_the_form_of_the_code_gains_by_closing_the_gate_and_the_papers_does_not() -> None:
    batch = _batch(2 * K + 1, weighted=False)
    paper = SelectiveNet(alpha=1.0, penalty=0.0)
    for gate, factor in ((0.0, 0.5), (-3.0, 1 / (1 + np.exp(3)))):
        batch.outputs[..., K] = gate
        whole = _value(paper, batch)
        shrunk = _value(replace(paper, normalise=False), batch)
        torch.testing.assert_close(shrunk, factor * whole)


def test_gamblers_with_the_payoff_of_the_classes_lose_nothing_by_abstaining_from_a_coin() -> None:
    z = torch.zeros((1, 1, K + 1), dtype=torch.float64)
    z[..., -1] = 50.0
    batch = Batch(z, torch.tensor([0]))
    loss = Gamblers(payoff=float(K))
    numbers = numbers_of([loss], z)
    means = torch.stack([t.mean(dim=0) for t in loss.terms(numbers, batch)])
    assert loss.combine(numbers, means).item() == pytest.approx(np.log(K))


@pytest.mark.parametrize("loss", [Gamblers(pretrain=2), SelfAdaptive(pretrain=2)])
def test_before_their_own_loss_abstainers_learn_the_classes_by_cross_entropy(loss: Loss) -> None:
    batch = _batch(K + 1)
    classes = batch._replace(outputs=batch.outputs[..., :-1])
    early, late = (_value(loss, batch._replace(epoch=e)) for e in (2, 3))
    torch.testing.assert_close(early, _value(CrossEntropy(), classes))
    assert (late - early).abs().min() > 1e-3


def test_targets_follow_the_belief_in_the_label() -> None:
    batch = _batch(K + 1)
    loss = SelfAdaptive(momentum=0.75, pretrain=1)
    numbers = numbers_of([loss] * M, batch.outputs)
    assert batch.targets is not None
    torch.testing.assert_close(loss.updated_targets(numbers, batch), batch.targets)
    moved = loss.updated_targets(numbers, batch._replace(epoch=2))
    p = batch.outputs[..., :-1].softmax(dim=-1)
    p_y = p[torch.arange(B)[:, None], torch.arange(M)[None], batch.labels[:, None]]
    torch.testing.assert_close(moved, 0.75 * batch.targets + 0.25 * p_y)


def test_parts_say_what_the_loss_is_made_of() -> None:
    batch = _batch(2 * K + 1, weighted=False)
    loss = SelectiveNet()
    numbers = numbers_of([loss] * M, batch.outputs)
    means = torch.stack([t.mean(dim=0) for t in loss.terms(numbers, batch)])
    parts = loss.parts(numbers, means)
    assert set(parts) == {"coverage", "selective_risk", "soft_error", "auxiliary"}
    torch.testing.assert_close(parts["coverage"], batch.outputs[..., K].sigmoid().mean(dim=0))


@pytest.mark.parametrize("loss", [case[0] for case in CASES], ids=str)
def test_json_brings_a_loss_back(loss: Loss) -> None:
    settings: Any = loss
    assert loss_from_dict({"kind": loss.kind, **asdict(settings)}) == loss


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CrossEntropy(smoothing=1.0), r"smoothing must be in \[0, 1\), got 1.0"),
        (lambda: Focal(gamma=-1.0), "gamma must be at least 0, got -1.0"),
        (lambda: SelectiveNet(coverage=0.0), r"coverage must be in \(0, 1\], got 0.0"),
        (lambda: SelectiveNet(alpha=1.5), r"alpha must be in \[0, 1\], got 1.5"),
        (lambda: SelectiveNet(penalty=np.inf), "penalty must be at least 0, got inf"),
        (lambda: SelectiveNet(risk_target=1.0), r"risk_target must be in \[0, 1\), got 1.0"),
        (lambda: Gamblers(payoff=1.0), "payoff must be above 1, got 1.0"),
        (lambda: SelfAdaptive(momentum=1.0), r"momentum must be in \[0, 1\), got 1.0"),
        (lambda: SelfAdaptive(pretrain=-1), "pretrain must be at least 0, got -1"),
        (lambda: loss_from_dict({"kind": "hinge"}), "loss 'hinge' is unknown; known: cross_ent"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], Loss], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_gate_of_one_makes_selective_risk_the_plain_one() -> None:
    batch = _batch(2 * K + 1)
    batch.outputs[..., K] = 40.0
    plain = _value(CrossEntropy(), batch._replace(outputs=batch.outputs[..., :K]))
    for loss in (SelectiveNet(alpha=1.0), replace(SelectiveNet(alpha=1.0), normalise=False)):
        torch.testing.assert_close(_value(loss, batch), plain)
