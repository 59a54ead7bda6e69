"""How much a device takes at once, and how much of its arithmetic a backbone puts to use."""

from contextlib import ExitStack
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from selectkit.extract.backbones.protocol import Backbone
from selectkit.extract.backbones.tokens import TokenBackbone

if TYPE_CHECKING:
    from torch import dtype, nn

CPU_BATCHES = (32, 16, 8, 4, 2)
KEPT = 32 << 20  # bytes; glibc gives larger memory back and asks for it anew, page by page
CUDA_BATCHES = (512, 256, 128, 64, 32, 16, 8, 4, 2)
MEMORY_SHARE = 0.5  # of what is free: graphs and the batch behind need theirs


def auto_batch_size(backbone: Backbone, size: int) -> int:
    """Choose how many images go through a backbone at once.

    Args:
        backbone: Any; for those of users the answer is 32.
        size: Height and width of the images in pixels.

    Returns:
        On CUDA the largest of 2, 4, ... 512 that by the memory of a trial needs at most half of
        what is free; on the CPU see `cpu_batch_size`.
    """
    if not isinstance(backbone, TokenBackbone):
        return CPU_BATCHES[0]
    if not backbone.lag:
        return cpu_batch_size(backbone, size)
    import torch

    trial = np.zeros((2, size, size, 3), dtype=np.uint8)
    backbone(trial)  # libraries take their memory the first time
    torch.cuda.reset_peak_memory_stats(backbone.device)
    before = torch.cuda.memory_allocated(backbone.device)
    backbone(trial)
    each = (torch.cuda.max_memory_allocated(backbone.device) - before) / len(trial)
    free, _ = torch.cuda.mem_get_info(backbone.device)
    return largest_batch(each, MEMORY_SHARE * free)


def cpu_batch_size(backbone: TokenBackbone, size: int) -> int:
    """Choose how many images go through a model at once on the CPU.

    A layer whose outputs take more than 32 MiB writes them to fresh memory every time, and touching
    it page by page took a seventh of a forward pass.

    Args:
        backbone: On the CPU.
        size: Height and width of the images in pixels.

    Returns:
        The largest of 1, 2, ... 32 with which the outputs of every layer stay below.
    """
    import torch

    widest = 1

    def note(layer: "nn.Module", given: object, output: object) -> None:
        nonlocal widest
        if isinstance(output, torch.Tensor):
            widest = max(widest, output.numel() * output.element_size())

    layers = [m for m in backbone.model.modules() if not any(True for _ in m.children())]
    with ExitStack() as hooks:
        for layer in layers:
            hooks.callback(layer.register_forward_hook(note).remove)
        replace(backbone, compiled=False)(np.zeros((1, size, size, 3), dtype=np.uint8))
    return next((n for n in CPU_BATCHES if n * widest < KEPT), 1)


def largest_batch(each: float, room: float) -> int:
    """Return the largest of `CUDA_BATCHES` that fits, 1 when none does.

    Args:
        each: Bytes per image.
        room: Bytes.

    Returns:
        Images.
    """
    return next((n for n in CUDA_BATCHES if n * each <= room), 1)


def flops_per_image(backbone: TokenBackbone, size: int) -> float:
    """Count the floating-point operations of the matrix products of one image.

    Args:
        backbone: On any device.
        size: Height and width of the image in pixels.

    Returns:
        Operations, a multiplication and an addition counting as two.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    pixels = torch.zeros((1, size, size, 3), dtype=torch.uint8, device=backbone.device)
    counter = FlopCounterMode(display=False)
    with ExitStack() as stack:
        for context in (torch.no_grad(), *backbone.precision(), counter):
            stack.enter_context(context)
        backbone.pool(pixels, *backbone.normalisation())
    return float(counter.get_total_flops())


def matmul_ceiling(device: str, precision: str, side: int = 8192, repetitions: int = 20) -> float:
    """Measure what a device reaches in one large matrix product.

    Args:
        device: A torch device.
        precision: "float32" or "bfloat16".
        side: Rows and columns of the square matrices.
        repetitions: Products that are timed, after five that are not.

    Returns:
        Floating-point operations per second.
    """
    import torch

    kind: dtype = getattr(torch, precision)
    a = torch.ones((side, side), dtype=kind, device=device)
    out = torch.empty_like(a)

    def run(times: int) -> float:
        start = perf_counter()
        for _ in range(times):
            torch.mm(a, a, out=out)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        return perf_counter() - start

    run(5)
    return repetitions * 2 * float(side) ** 3 / run(repetitions)


def utilisation(backbone: TokenBackbone, size: int, images_per_second: float) -> float | None:
    """Return the share of the device's measured matrix arithmetic that a rate of images uses.

    Args:
        backbone: On any device; on the CPU the ceiling is a rough one.
        size: Height and width of the images in pixels.
        images_per_second: The rate.

    Returns:
        Model FLOP utilisation, between 0 and 1 but for noise; None when the device has no memory
        left to measure it.
    """
    import torch

    side = 8192 if backbone.lag else 512
    try:
        ceiling = matmul_ceiling(backbone.device, backbone.dtype, side)
        return flops_per_image(backbone, size) * images_per_second / ceiling
    except torch.OutOfMemoryError:
        return None
