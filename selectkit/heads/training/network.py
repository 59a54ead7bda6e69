"""The network of every trained head, M of them stacked: D -> hidden (GELU) -> O, or D -> O."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor, dtype

_WIDE = 2**18
"""Weights of one hidden layer from which on a product per configuration is efficient by itself."""


def initial(
    n_inputs: int, hidden: int | None, n_outputs: int, seeds: Sequence[int]
) -> "list[Tensor]":
    """Return weights (M, out, in) and biases (M, out) of each layer, float32.

    Uniform in +-1 / sqrt(fan-in) as torch.nn.Linear, one generator per configuration.
    """
    import torch

    sizes = [n_inputs, n_outputs] if hidden is None else [n_inputs, hidden, n_outputs]
    stacks = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        one = []
        for fan_in, fan_out in pairwise(sizes):
            bound = 1 / sqrt(fan_in)
            for shape in ((fan_out, fan_in), (fan_out,)):
                one.append(torch.empty(shape).uniform_(-bound, bound, generator=generator))
        stacks.append(one)
    return [torch.stack(tensors) for tensors in zip(*stacks, strict=True)]


def stacked(networks: "Sequence[Sequence[npt.NDArray[np.floating]]]") -> "list[Tensor]":
    """Return given weights as `initial` does.

    Args:
        networks: Of each configuration, per layer weights (in, out) and bias (out,).

    Returns:
        Weights (M, out, in) and biases (M, out) of each layer, float32.
    """
    import torch

    return [
        torch.stack([torch.from_numpy(np.ascontiguousarray(a.T, dtype=np.float32)) for a in arrays])
        for arrays in zip(*networks, strict=True)
    ]


class Activations(NamedTuple):
    """What the gradient needs of a hidden layer: before and after GELU, both (M, H, B)."""

    before: "Tensor"
    after: "Tensor"


def outputs(parameters: "Sequence[Tensor]", x: "Tensor") -> "Tensor":
    """Return the outputs of all configurations for the same rows; see `forward`."""
    return forward(parameters, x)[0]


def forward(parameters: "Sequence[Tensor]", x: "Tensor") -> "tuple[Tensor, Activations | None]":
    """Return the outputs of all configurations for the same rows, and what `backward` needs.

    Inside, rows lie along the last axis: products of stacked weights then need no transposed copy,
    and a softmax over few outputs runs along the rows, where processors compute several at once.

    Args:
        parameters: As `initial` returns them.
        x: Shape (B, D). In bfloat16 the products with the first weights are computed in it; all
            else is in the dtype of the parameters.

    Returns:
        Outputs (B, M, O) in the dtype of the parameters, a view of (M, O, B) in memory, and the
        hidden layer if there is one.
    """
    import torch
    from torch.nn.functional import gelu

    u = _first(parameters[0], parameters[1], x)
    if len(parameters) == 2:
        return u.permute(2, 0, 1), None
    h = gelu(u)
    z = torch.baddbmm(parameters[3].unsqueeze(2), parameters[2], h)
    return z.permute(2, 0, 1), Activations(u, h)


def backward(
    parameters: "Sequence[Tensor]", x: "Tensor", hidden: Activations | None, slope: "Tensor"
) -> "list[Tensor]":
    """Return the gradient at every parameter.

    By hand and not by autograd, whose bookkeeping costs more than the products of a small network.

    Args:
        parameters: Those of `forward`.
        x: Those of `forward`.
        hidden: From `forward`.
        slope: Gradient at the outputs, (B, M, O); best in memory as the outputs are.

    Returns:
        One contiguous gradient per parameter.
    """
    import torch

    s = slope.permute(1, 2, 0)
    if hidden is None:
        return [_first_slope(x, s), s.sum(dim=2)]
    dw = torch.bmm(s, hidden.after.transpose(1, 2))
    dh = torch.bmm(parameters[2].transpose(1, 2), s)
    du = torch.ops.aten.gelu_backward(dh, hidden.before)
    return [_first_slope(x, du), du.sum(dim=2), dw, s.sum(dim=2)]


def _first(w: "Tensor", b: "Tensor", x: "Tensor") -> "Tensor":
    """Return W x^T + b, (M, H, B): all configurations as one product, wide ones in turn.

    Wide ones are efficient alone, and then round as they do alone, which in bfloat16 is visible.
    """
    import torch

    m, h, d = w.shape
    if m > 1 and h * d >= _WIDE:
        return torch.cat([_first(w[i : i + 1], b[i : i + 1], x) for i in range(m)])
    w, b = w.reshape(m * h, d), b.reshape(m * h, 1)
    u = torch.addmm(b.to(x.dtype), w.to(x.dtype), x.T).to(w.dtype)
    return u.view(m, h, len(x))


def _first_slope(x: "Tensor", du: "Tensor") -> "Tensor":
    """Return du x as (M, H, D), in the dtype of du."""
    import torch

    m, h, b = du.shape
    if m > 1 and h * x.shape[1] >= _WIDE:
        return torch.cat([_first_slope(x, du[i : i + 1]) for i in range(m)])
    dw = du.reshape(m * h, b).to(x.dtype) @ x
    return dw.view(m, h, -1).to(du.dtype)


def training_dtype(precision: str, n_inputs: int, hidden: int | None, device: str) -> "dtype":
    """Return the dtype of the rows, and so of the products with the first weights.

    Args:
        precision: "auto", "float32" or "bfloat16".
        n_inputs: D.
        hidden: Hidden units, or None.
        device: A torch device.

    Returns:
        bfloat16 when asked for, or when left open, the layer is large and the hardware multiplies
        bfloat16 natively (CUDA from Ampere on; CPUs with AVX512_BF16, AMX or ARM's BF16).
    """
    import torch

    if precision == "auto":
        large = hidden is not None and hidden * n_inputs >= _WIDE
        return torch.bfloat16 if large and _native_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _native_bfloat16(device: str) -> bool:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities: Mapping[str, object] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # older torch cannot tell
    return any(capabilities.get(n) for n in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
