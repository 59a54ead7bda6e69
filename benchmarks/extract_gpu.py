"""How near is extraction on a CUDA device to the bare forward pass, and that to the hardware?

Run `python -m benchmarks.extract_gpu > benchmarks/results/extract_gpu.jsonl` on a machine with a
device. DINOv3's S, B, L and H+ at 224 pixels in bfloat16, with random weights made on the spot. The
bare pass is the same pooling, compiled, on one batch that lies on the device; all contestants in
turn in each repetition, ratios per repetition. Utilisation is the share of what one large matrix
product reaches in the same run. JPEG files are decoded on the CPU and, where torchcodec is
installed, on the device.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks._figures import figure, middle
from benchmarks._photographs import write_photographs
from selectkit.extract import extract, load_backbone, open_source
from selectkit.extract.backbones import TokenBackbone
from selectkit.extract.backbones.capacity import (
    auto_batch_size,
    flops_per_image,
    matmul_ceiling,
)
from selectkit.extract.decode import JpegDecoder
from selectkit.extract.environment import installed

PACKAGES = ("torch", "torchcodec", "transformers", "simplejpeg", "numpy")
SIZE = 224

# hidden size, layers, heads, hidden units of the MLP, gated: Simeoni et al. 2025, arXiv 2508.10104
MODELS: dict[str, tuple[int, int, int, int, bool]] = {
    "S": (384, 12, 6, 1536, False),
    "B": (768, 12, 12, 3072, False),
    "L": (1024, 24, 16, 4096, False),
    "H+": (1280, 32, 20, 5120, True),
}


def checkpoint(name: str, folder: Path) -> Path:
    """A DINOv3 of one size with random weights."""
    import torch
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    width, layers, heads, units, gated = MODELS[name]
    torch.manual_seed(0)
    config = DINOv3ViTConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=units,
        use_gated_mlp=gated,
        hidden_act="silu" if gated else "gelu",
        num_register_tokens=4,
    )
    DINOv3ViTModel(config).save_pretrained(folder)
    return folder


def bare(backbone: TokenBackbone, batch: int) -> Callable[[int], None]:
    """The compiled forward pass on one batch that lies on the device."""
    import torch

    x = torch.zeros((batch, SIZE, SIZE, 3), dtype=torch.uint8, device=backbone.device)
    pool = torch.compile(backbone.pool, mode="reduce-overhead", dynamic=False)
    normalisation = backbone.normalisation()

    def run(batches: int) -> None:
        with ExitStack() as stack:
            for context in (torch.no_grad(), *backbone.precision()):
                stack.enter_context(context)
            for _ in range(batches):
                pool(x, *normalisation)
        torch.cuda.synchronize()

    return run


def from_pixels(backbone: TokenBackbone, batch: int) -> Callable[[int], None]:
    """uint8 in the host's memory to features in the host's memory, as the engine does it."""
    ring = np.zeros((3, batch, SIZE, SIZE, 3), dtype=np.uint8)

    def run(batches: int) -> None:
        with backbone.pinned(ring.reshape(-1, SIZE, SIZE, 3), batch):
            before: Callable[[], Any] | None = None
            for i in range(batches):
                current = backbone.start(ring[i % 3])
                if before is not None:
                    before()
                before = current
            if before is not None:
                before()

    return run


def from_files(
    backbone: TokenBackbone, batch: int, folder: Path, decoder: JpegDecoder = "cpu"
) -> None:
    """JPEG files to a committed store."""
    store = folder.parent / "store.zarr"
    shutil.rmtree(store, ignore_errors=True)
    extract(open_source(folder), store, backbone=backbone, batch_size=batch, jpeg_decoder=decoder)


def measure(name: str, files: Sequence[Path], work: Path, repetitions: int, images: int) -> None:
    """All figures of one model."""
    backbone = load_backbone(checkpoint(name, work / "model"), device="cuda", dtype="bfloat16")
    batch = auto_batch_size(backbone, SIZE)
    batches = max(4, images // batch)
    counts = {"bare forward": batches * batch, "from uint8": batches * batch}
    actions: dict[str, Callable[[], None]] = {
        "bare forward": partial(bare(backbone, batch), batches),
        "from uint8": partial(from_pixels(backbone, batch), batches),
        "from JPEG": partial(from_files, backbone, batch, files[0].parent),
    }
    if installed("torchcodec"):
        actions["from JPEG, decoded on the device"] = partial(
            from_files, backbone, batch, files[0].parent, "gpu"
        )
    rates: dict[str, list[float]] = {what: [] for what in actions}
    for _ in range(repetitions + 1):  # the first compiles
        for what, action in actions.items():
            start = perf_counter()
            action()
            rates[what].append(counts.get(what, len(files)) / (perf_counter() - start))
    rates = {what: found[1:] for what, found in rates.items()}
    ceiling = matmul_ceiling(backbone.device, backbone.dtype)
    operations = flops_per_image(backbone, SIZE)
    question = f"ViT-{name} at {SIZE}, bfloat16, batches of {batch}, one CUDA device"
    report(f"{question}: ceiling of a matrix product", [ceiling / 1e12], "TFLOP/s")
    for what, found in rates.items():
        report(f"{question}: {what}", found, "images/s")
        shares = [operations * rate / ceiling for rate in found]
        report(f"{question}: {what}, utilisation", shares, "of the ceiling")
        if what != "bare forward":
            ratios = [a / b for a, b in zip(found, rates["bare forward"], strict=True)]
            report(f"{question}: {what} over bare forward", ratios, "x")


def report(question: str, values: Sequence[float], unit: str) -> None:
    """Print the median and the range."""
    number, spread = middle(values)
    figure(question, number, unit, spread=spread, packages=PACKAGES)


def main() -> None:
    """Run what was asked for; nothing to do without a device."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--images", type=int, default=20_000, help="per repetition, from memory")
    parser.add_argument("--copies", type=int, default=100, help="of 64 photographs, as files")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device: nothing was measured")
        return
    with tempfile.TemporaryDirectory() as name:
        files = write_photographs(Path(name) / "images", 64, options.copies)
        for model in options.models:
            with tempfile.TemporaryDirectory(dir=name) as work:
                measure(model, files, Path(work), options.repetitions, options.images)
            torch.cuda.empty_cache()
            torch.compiler.reset()


if __name__ == "__main__":
    main()
