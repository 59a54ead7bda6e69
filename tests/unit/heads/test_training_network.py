"""The stacked network: its gradient is autograd's, and configurations do not touch each other."""

import pytest
import torch

from selectkit.errors import ConfigError
from selectkit.heads import Recipe
from selectkit.heads.training import network
from selectkit.heads.training.network import backward, forward, initial, outputs, training_dtype


def _parameters(hidden: int | None, m: int) -> list[torch.Tensor]:
    return [p.double() for p in initial(6, hidden, 3, seeds=list(range(m)))]


def _rows(n: int = 11) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("m", [1, 4])
@pytest.mark.parametrize("hidden", [None, 5])
def test_the_gradient_by_hand_is_that_of_autograd(
    hidden: int | None, m: int, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wide:
        monkeypatch.setattr(network, "_WIDE", 1)
    parameters, x = _parameters(hidden, m), _rows()
    z, kept = forward(parameters, x)
    slope = torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=z.dtype)
    leaves = [p.clone().requires_grad_() for p in parameters]
    expected = torch.autograd.grad(outputs(leaves, x), leaves, slope)
    for ours, theirs in zip(backward(parameters, x, kept, slope), expected, strict=True):
        assert ours.is_contiguous()
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("hidden", [None, 5])
def test_together_is_as_alone(hidden: int | None) -> None:
    parameters, x = _parameters(hidden, 4), _rows()
    together = outputs(parameters, x)
    for m in range(4):
        alone = outputs([p[m : m + 1] for p in parameters], x)
        torch.testing.assert_close(together[:, m], alone[:, 0], rtol=1e-12, atol=1e-12)


def test_wide_layers_round_alone_as_together_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_WIDE", 1)
    parameters = initial(64, 32, 3, seeds=[0, 1])
    x = torch.randn(20, 64, generator=torch.Generator().manual_seed(9)).bfloat16()
    together, kept = forward(parameters, x)
    slope = torch.ones_like(together)
    gradients = backward(parameters, x, kept, slope)
    for m in range(2):
        own = [p[m : m + 1] for p in parameters]
        alone, kept_alone = forward(own, x)
        assert alone.dtype == torch.float32
        torch.testing.assert_close(together[:, m], alone[:, 0], rtol=1e-6, atol=1e-6)
        first = backward(own, x, kept_alone, slope[:, m : m + 1])[0]
        torch.testing.assert_close(gradients[0][m], first[0], rtol=1e-5, atol=1e-5)


def test_initial_weights_depend_on_their_own_seed_only() -> None:
    one, many = initial(6, 5, 3, seeds=[7]), initial(6, 5, 3, seeds=[3, 7, 3])
    for a, b in zip(one, many, strict=True):
        assert torch.equal(a[0], b[1])
        assert torch.equal(b[0], b[2])
        assert not torch.equal(b[0], b[1])
    assert many[0].abs().max() <= 6**-0.5


def test_bfloat16_is_for_large_layers_on_hardware_that_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network, "_native_bfloat16", lambda device: True)
    assert training_dtype("auto", 1280, 768, "cpu") == torch.bfloat16
    assert training_dtype("auto", 1280, 64, "cpu") == torch.float32
    assert training_dtype("auto", 10**6, None, "cpu") == torch.float32
    assert training_dtype("float32", 1280, 768, "cpu") == torch.float32
    monkeypatch.setattr(network, "_native_bfloat16", lambda device: False)
    assert training_dtype("auto", 1280, 768, "cpu") == torch.float32
    assert training_dtype("bfloat16", 4, 4, "cpu") == torch.bfloat16
    with pytest.raises(ConfigError, match="precision must be 'auto', 'float32' or 'bfloat16'"):
        Recipe(precision="half")  # type: ignore[arg-type]
