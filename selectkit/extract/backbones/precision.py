"""Which arithmetic: bfloat16 where the hardware has it and the features survive it.

Automatic mixed precision multiplies in bfloat16 (8 bits of mantissa) and keeps norms, residuals and
pooling in float32. Whether that is near enough is measured, not assumed: the features of four
reference images may move by at most `DRIFT` of their length.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selectkit.extract.backbones.tokens import TokenBackbone

if TYPE_CHECKING:
    from torch import nn

DRIFT = 0.05  # a cosine of 0.9987 to float32 at worst

_NATIVE = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")  # x86 and ARM


def bfloat16_is_fast(device: str) -> bool:
    """Whether a device multiplies bfloat16 natively; elsewhere it is slower than float32.

    Args:
        device: A torch device.

    Returns:
        True for CUDA from Ampere on, and for CPUs with AVX512_BF16, AMX or ARM's BF16.
    """
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device) >= (8, 0)
    ask: Callable[[], Mapping[str, object]] = getattr(torch.cpu, "get_capabilities", dict)
    capabilities = ask()  # older torch cannot tell
    return any(bool(capabilities.get(name)) for name in _NATIVE)


def reference(backbone: TokenBackbone) -> npt.NDArray[np.uint8]:
    """Return four fixed images in the backbone's own size.

    Args:
        backbone: Sets the size.

    Returns:
        Shape (4, size, size, 3), uint8: ramps, coarse and fine checks, black.
    """
    size = backbone.preprocessing.size
    i = np.arange(size)
    ramp = np.add.outer(7 * i, 3 * i)
    coarse = 200 * (np.add.outer(i // 16, i // 16) % 2)
    fine = 255 * (np.add.outer(i // 3, i // 5) % 2)
    layers = (
        (ramp, ramp // 2, ramp // 3),
        (coarse, 255 - coarse, ramp // 4),
        (fine, fine, coarse),
        (0 * ramp, 0 * ramp, 0 * ramp),
    )
    return np.stack([np.stack(x, axis=-1) % 256 for x in layers]).astype(np.uint8)


def drift(exact: TokenBackbone, other: TokenBackbone) -> float:
    """Measure how far one backbone's features lie from another's.

    Args:
        exact: The measure.
        other: The same model in other arithmetic.

    Returns:
        The largest Euclidean distance over the length of the exact vector, over all features of
        the reference images.
    """
    return _moved(exact(reference(exact)), other)


def _moved(exact: Mapping[str, npt.NDArray[np.float32]], other: TokenBackbone) -> float:
    """The drift from features of the reference images that are known."""
    found = other(reference(other))
    return max(
        float((np.linalg.norm(found[name] - x, axis=1) / np.linalg.norm(x, axis=1)).max())
        for name, x in exact.items()
    )


def to_bfloat16(
    backbone: TokenBackbone, *, only_if_near: bool, compiled: bool = False
) -> TokenBackbone:
    """Let a backbone compute in bfloat16.

    Args:
        backbone: In float32. Its linear layers are changed in place: they keep their weights in
            bfloat16, to which mixed precision would round them in every batch.
        only_if_near: Leave the arithmetic as it is when the features move by more than `DRIFT`.
        compiled: Compile the forward pass, which rounds in other places.

    Returns:
        The backbone in bfloat16, with its drift; or the one that was given, compiled if that is
        asked for.
    """
    mixed = replace(backbone, dtype="bfloat16")
    exact = backbone(reference(backbone))
    moved = _moved(exact, mixed)
    if only_if_near and not moved <= DRIFT:
        return replace(backbone, compiled=compiled)
    _round_linear(backbone.model)
    if compiled:
        mixed = replace(mixed, compiled=True)
        moved = _moved(exact, mixed)
    return replace(mixed, drift=moved)


def _round_linear(model: "nn.Module") -> None:
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.to(torch.bfloat16)
