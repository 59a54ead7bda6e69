"""Optimisers over stacked parameters: the published rules, Friendly SAM's four tests, clipping."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from timm.optim import Lion

from selectkit.heads.training.optimisers import Descent, FriendlySam, Optimiser

Tensor = torch.Tensor
M = 3
RATES = [1e-2, 3e-3, 1e-1]
DECAYS = [0.1, 0.0, 1.0]


def _start(seed: int = 0, shape: tuple[int, ...] = (M, 4, 2)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64),
        torch.randn(shape[:2], generator=generator, dtype=torch.float64),
    ]


def _slopes(parameters: list[Tensor]) -> list[Tensor]:
    """Gradients of a curved function, so that every step has another one."""
    return [torch.sin(3 * p) + torch.arange(p.shape[-1]) / p.shape[-1] for p in parameters]


def _theirs(rule: str, parameters: list[Tensor], rate: float, decay: float) -> Any:
    groups: Any = [
        {"params": [parameters[0]], "weight_decay": decay},
        {"params": [parameters[1]], "weight_decay": 0.0},
    ]
    if rule == "adamw":
        return torch.optim.AdamW(groups, lr=rate)
    if rule == "lion":
        return Lion(groups, lr=rate, betas=(0.9, 0.99), foreach=False)
    return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)


@pytest.mark.parametrize("equal", [False, True], ids=["rates differ", "one rate"])
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("rule", ["adamw", "sgd", "lion"])
def test_each_configuration_steps_as_the_published_optimiser(
    rule: str, large: bool, equal: bool
) -> None:
    rates, decays = ([RATES[0]] * M, [DECAYS[0]] * M) if equal else (RATES, DECAYS)
    if rule == "sgd":
        decays = [0.0] * M  # torch's SGD has coupled decay, ours decoupled
    shape = (M, 64, 256) if large else (M, 4, 2)
    ours = _start(shape=shape)
    single = [[p[m].clone() for p in ours] for m in range(M)]
    optimiser = Descent(ours, rule=rule, decays=decays, decayed=[True, False])
    peers = [_theirs(rule, single[m], rates[m], decays[m]) for m in range(M)]
    for _ in range(7):
        optimiser.step(lambda: _slopes(ours), rates)
        for m, peer in enumerate(peers):
            for p, g in zip(single[m], _slopes(single[m]), strict=True):
                p.grad = g
            peer.step()
    for m in range(M):
        for p, q in zip(ours, single[m], strict=True):
            torch.testing.assert_close(p[m], q, rtol=1e-11, atol=1e-12)


def test_decay_shrinks_by_rate_times_decay() -> None:
    parameters = _start()
    before = [p.clone() for p in parameters]
    optimiser = Descent(parameters, rule="sgd", decays=DECAYS, decayed=[True, False])
    optimiser.step(lambda: [torch.zeros_like(p) for p in parameters], RATES)
    factors = torch.tensor([1 - r * d for r, d in zip(RATES, DECAYS, strict=True)])
    torch.testing.assert_close(parameters[0], before[0] * factors.double().view(M, 1, 1))
    torch.testing.assert_close(parameters[1], before[1])


def test_clipping_is_that_of_torch_for_each_configuration() -> None:
    clips = [0.5, 100.0, 2.0]
    parameters = _start()
    before = [p.clone() for p in parameters]
    optimiser = Descent(
        parameters, rule="sgd", decays=[0.0] * M, decayed=[True, False], clips=clips
    )
    optimiser.step(lambda: _slopes(parameters), [1.0] * M)
    for m, clip in enumerate(clips):
        leaves = [p[m].clone().requires_grad_() for p in before]
        for leaf, g in zip(leaves, _slopes([p.detach() for p in leaves]), strict=True):
            leaf.grad = g
        torch.nn.utils.clip_grad_norm_(leaves, clip)
        for p, b, leaf in zip(parameters, before, leaves, strict=True):
            assert leaf.grad is not None
            torch.testing.assert_close(b[m] - p[m], 1.9 * leaf.grad)  # the first Nesterov step


def _sharp(
    parameters: list[Tensor], *, rho: float, sigma: float, adaptive: bool = False, rule: str = "sgd"
) -> FriendlySam:
    m = len(parameters[0])
    base = Descent(parameters, rule=rule, decays=[0.1] * m, decayed=[True] * len(parameters))
    return FriendlySam(
        base, parameters, rhos=[rho] * m, sigmas=[sigma] * m, decays=[0.9] * m, adaptive=adaptive
    )


def test_on_a_quadratic_the_gradient_is_that_at_the_perturbed_point() -> None:
    hessian = torch.diag(torch.tensor([1.0, 4.0, 0.5], dtype=torch.float64))
    w = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)
    seen: list[Tensor] = []

    class Recording:
        def step(self, gradients: Callable[[], list[Tensor]], rates: list[float]) -> None:
            seen.extend(gradients())

    sam = FriendlySam(Recording(), [w], rhos=[0.1], sigmas=[0.0], decays=[0.9])  # type: ignore[arg-type]
    sam.step(lambda: [w @ hessian], [1.0])
    slope = w[0] @ hessian
    expected = hessian @ (w[0] + 0.1 * slope / slope.norm())
    torch.testing.assert_close(seen[0][0], expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(w[0], torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))


@pytest.mark.parametrize("rule", ["adamw", "sgd", "lion"])
def test_a_radius_of_zero_is_the_base_optimiser_bit_for_bit(rule: str) -> None:
    plain, sharp = _start(), _start()
    one = Descent(plain, rule=rule, decays=[0.1] * M, decayed=[True, True])
    two = _sharp(sharp, rho=0.0, sigma=1.0, rule=rule)
    for _ in range(5):
        one.step(lambda: _slopes(plain), RATES)
        two.step(lambda: _slopes(sharp), RATES)
    for p, q in zip(plain, sharp, strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("adaptive", [False, True])
def test_without_the_friendly_part_it_is_sam(adaptive: bool) -> None:
    ours, theirs = _start(), _start()
    sam = _sharp(ours, rho=0.3, sigma=0.0, adaptive=adaptive)
    base = Descent(theirs, rule="sgd", decays=[0.1] * M, decayed=[True, True])
    for _ in range(5):
        sam.step(lambda: _slopes(ours), RATES)
        g = _slopes(theirs)
        scaled = [p.abs() * x for p, x in zip(theirs, g, strict=True)] if adaptive else g
        moved = []
        for p, x in zip(theirs, g, strict=True):
            away = p.clone()
            for m in range(M):
                norm = torch.cat([s[m].flatten() for s in scaled]).norm()
                step = p[m] ** 2 * x[m] if adaptive else x[m]
                away[m] += 0.3 * step / (norm + 1e-12)
            moved.append(away)
        base.step(lambda moved=moved: _slopes(moved), RATES)  # type: ignore[misc]
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_the_friendly_part_is_the_old_average_of_raw_gradients() -> None:
    w = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    raw = [torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 1.0]])]
    places: list[Tensor] = []

    class Still:
        def step(self, gradients: Callable[[], list[Tensor]], rates: list[float]) -> None:
            gradients()

    sam = FriendlySam(Still(), [w], rhos=[0.5], sigmas=[0.7], decays=[0.9])  # type: ignore[arg-type]
    for g in raw:

        def gradients(g: Tensor = g) -> list[Tensor]:
            places.append(w.clone())
            return [g.double()]

        sam.step(gradients, [1.0])
    m0 = np.array([3.0, 0.0])
    d1 = np.array([0.0, 2.0]) - 0.7 * m0
    m1 = 0.9 * m0 + 0.1 * np.array([0.0, 2.0])
    d2 = np.array([1.0, 1.0]) - 0.7 * m1
    for second, d in zip(places[1::2], (np.array([3.0, 0.0]), d1, d2), strict=True):
        np.testing.assert_allclose(second[0], [1, 2] + 0.5 * d / np.linalg.norm(d), rtol=1e-9)


def _optimiser(kind: str, parameters: list[Tensor]) -> Optimiser:
    if kind == "friendly":
        return _sharp(parameters, rho=0.1, sigma=1.0, rule="adamw")
    return Descent(parameters, rule=kind, decays=DECAYS, decayed=[True, False])


@pytest.mark.parametrize("kind", ["adamw", "sgd", "lion", "friendly"])
def test_a_saved_state_goes_on_with_the_same_trajectory(kind: str) -> None:
    straight = _start()
    optimiser = _optimiser(kind, straight)
    for _ in range(3):
        optimiser.step(lambda: _slopes(straight), RATES)
    resumed = [p.clone() for p in straight]
    other = _optimiser(kind, resumed)
    other.load_state_dict({name: t.clone() for name, t in optimiser.state_dict().items()})
    for _ in range(3):
        optimiser.step(lambda: _slopes(straight), RATES)
        other.step(lambda: _slopes(resumed), RATES)
    for p, q in zip(straight, resumed, strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("kind", ["adamw", "sgd", "lion", "friendly"])
def test_dropping_configurations_leaves_the_others_as_they_were(kind: str) -> None:
    whole, part = _start(), _start()
    one, two = _optimiser(kind, whole), _optimiser(kind, part)
    for _ in range(2):
        one.step(lambda: _slopes(whole), RATES)
        two.step(lambda: _slopes(part), RATES)
    chosen = torch.tensor([0, 2])
    part = [p[chosen] for p in part]
    two.keep(chosen, part)
    for _ in range(2):
        one.step(lambda: _slopes(whole), RATES)
        two.step(lambda: _slopes(part), [RATES[0], RATES[2]])
    for p, q in zip(whole, part, strict=True):
        torch.testing.assert_close(p[chosen], q, rtol=1e-13, atol=0)
