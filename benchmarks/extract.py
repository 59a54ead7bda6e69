"""How near is extraction to what the hardware can do, and to what others make of it?

Run `python -m benchmarks.extract > benchmarks/results/extract.jsonl`. Host side: the model is a
stub that sleeps, and the unit is images per second of processor time, all threads and processes
counted, because it depends least on what else the machine does. Forward: wall time, all contestants
in turn in each repetition, ratios per repetition. Weights are random, which changes no speed.
"""

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._figures import figure, middle
from benchmarks._photographs import write_photographs
from selectkit.artifact import content_hash
from selectkit.extract import Preprocessing, decoders, extract, load_backbone, open_source
from selectkit.extract.backbones import TokenBackbone
from selectkit.extract.backbones.capacity import cpu_batch_size
from selectkit.threads import usable_cores

PACKAGES = ("torch", "torchvision", "transformers", "pillow", "simplejpeg", "numpy")
BATCH, DIM, TOKENS = 32, 384, 201
NAP = 0.002  # seconds per batch, so that a stub is a device that others can work beside

Spent = tuple[float, float]  # wall and processor seconds


@dataclass(frozen=True)
class Sleeper:
    """Features without arithmetic."""

    id: str = "sleeper"
    dim: int = DIM
    patch_size: int = 16
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(224))

    def fingerprint(self) -> dict[str, Any]:
        """Say nothing but the name."""
        return {"id": self.id}

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """Sleep, whatever the pixels are."""
        time.sleep(NAP)
        some = np.ones((len(pixels), DIM), dtype=np.float32)
        return {"cls": some, "patch_mean": some}


@contextmanager
def spent(found: list[Spent]) -> Iterator[None]:
    """Append wall and processor time of the block, finished child processes included."""
    wall, before = time.perf_counter(), processor_seconds()
    yield
    found.append((time.perf_counter() - wall, processor_seconds() - before))


def processor_seconds() -> float:
    """What this process, its finished children and its decoders have used."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usages) + decoders.processor_seconds()


def in_turn(
    actions: Mapping[str, Callable[[], object]], repetitions: int
) -> dict[str, list[Spent]]:
    """Time each action in each repetition; a first round is not counted."""
    times: dict[str, list[Spent]] = {name: [] for name in actions}
    for _ in range(repetitions + 1):
        for name, action in actions.items():
            with spent(times[name]):
                action()
    return {name: found[1:] for name, found in times.items()}


def with_engine(folder: Path, backbone: Any, workers: int) -> None:
    """Files to a committed store."""
    store = folder.parent / "store.zarr"
    shutil.rmtree(store, ignore_errors=True)
    extract(open_source(folder), store, backbone=backbone, workers=workers)


def with_pipeline(files: Sequence[Path], model: Any, *, pool: bool) -> None:
    """Hugging Face's pipeline, as its documentation shows it, with batches."""
    from transformers import DINOv3ViTImageProcessor, pipeline

    run = pipeline(
        "image-feature-extraction",
        model=model,
        image_processor=DINOv3ViTImageProcessor(size={"height": 224, "width": 224}),
        batch_size=BATCH,
        pool=pool,
        device="cpu",
    )
    found = run([str(file) for file in files])
    np.save(
        files[0].parent.parent / "pipeline.npy",
        np.array([x[0] if pool else x[0][0] for x in found]),
    )


def with_dataloader(files: Sequence[Path], workers: int) -> None:
    """The usual loop: a data set, torchvision's transforms, a DataLoader, one array at the end."""
    import torch
    from PIL import Image
    from torchvision import transforms

    transform = transforms.Compose([
        transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])

    class Files(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, i: int) -> Any:
            return transform(Image.open(files[i]).convert("RGB"))

    loader = torch.utils.data.DataLoader(Files(), batch_size=BATCH, num_workers=workers)
    features = []
    for batch in loader:
        time.sleep(NAP)
        features.append(np.ones((len(batch), 2 * DIM), dtype=np.float32))
    del loader
    np.save(files[0].parent.parent / "loader.npy", np.concatenate(features))


def host_side(files: Sequence[Path], repetitions: int) -> None:
    """Decode, resize, batch, write, with a model that costs nothing."""
    import torch

    torch.set_num_threads(1)
    few = files[: len(files) // 4]  # it is slow
    counts = {"Hugging Face pipeline": len(few)}
    actions: dict[str, Callable[[], object]] = {
        "selectkit, 1 thread": partial(with_engine, files[0].parent, Sleeper(), 1),
        "selectkit, 2 threads": partial(with_engine, files[0].parent, Sleeper(), 2),
        "DataLoader, 0 workers": partial(with_dataloader, files, 0),
        "DataLoader, 2 workers": partial(with_dataloader, files, 2),
        "Hugging Face pipeline, pooled": partial(with_pipeline, files, sleeping_model(), pool=True),
        "Hugging Face pipeline": partial(with_pipeline, few, sleeping_model(), pool=False),
    }
    times = in_turn(actions, repetitions)
    rates = {
        name: [counts.get(name, len(files)) / cpu for _, cpu in found]
        for name, found in times.items()
    }
    question = "JPEG 500 x 375 to features on disk, sleeping model"
    for name, found in rates.items():
        report(f"{question}: {name}", found, "images/s of processor time")
    own = rates["selectkit, 2 threads"]
    for name in list(rates)[2:]:
        ratios = [a / b for a, b in zip(own, rates[name], strict=True)]
        report(f"{question}: selectkit over {name}", ratios, "x")


def sleeping_model() -> Any:
    """A transformers model whose forward sleeps and returns tokens of the size of ViT-S/16."""
    import torch
    from transformers import DINOv3ViTConfig, DINOv3ViTModel
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    class Sleeping(DINOv3ViTModel):  # type: ignore[misc]  # transformers has no types
        def forward(self, pixel_values: Any, **_: Any) -> Any:
            time.sleep(NAP)
            tokens = torch.ones((len(pixel_values), TOKENS, DIM))
            return BaseModelOutputWithPooling(tokens, tokens[:, 0])

    return Sleeping(DINOv3ViTConfig(num_hidden_layers=1, hidden_size=64)).eval()


def checkpoint(folder: Path) -> Path:
    """DINOv3's ViT-S/16 with random weights."""
    import torch
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(0)
    DINOv3ViTModel(DINOv3ViTConfig(num_register_tokens=4)).save_pretrained(folder)
    return folder


def forward_side(files: Sequence[Path], folder: Path, repetitions: int) -> None:
    """The whole way with a real model, beside the bare forward pass."""
    import torch
    from transformers import DINOv3ViTModel

    torch.set_num_threads(usable_cores())
    exact = load_backbone(folder, device="cpu")
    fast = load_backbone(folder, device="cpu", dtype="auto")
    few = files[: len(files) // 3]
    plain = DINOv3ViTModel.from_pretrained(folder).eval()
    theirs = "Hugging Face pipeline in float32"
    actions: dict[str, Callable[[], object]] = {}
    actions[theirs] = partial(with_pipeline, few, plain, pool=True)
    backbones = {backbone.dtype: backbone for backbone in (exact, fast)}
    compiled = load_backbone(folder, device="cpu", dtype="auto", compile=True)
    engines = {**backbones, f"{compiled.dtype}, compiled": compiled}
    for name, model in engines.items():
        actions[f"{name}: selectkit"] = partial(with_engine, files[0].parent, model, usable_cores())
        if name in backbones:
            actions[f"{name}: bare forward"] = partial(bare, model, len(files))
    times = in_turn(actions, repetitions)
    question = "ViT-S/16 at 224, shared CPU, JPEG files to features"
    rates = {
        name: np.array(len(few if name == theirs else files) / np.array(found))
        for name, found in times.items()
    }
    for name, found in rates.items():
        report(f"{question}, {name}", found[:, 0], "images/s")
    for engine, model in engines.items():
        for name, others in (("bare forward", f"{model.dtype}: bare forward"), (theirs, theirs)):
            ratios = rates[f"{engine}: selectkit"] / rates[others]
            what = f"{question}, {engine}: selectkit over {name}"
            report(what, ratios[:, 0], "x")
            report(f"{what}, processor time", ratios[:, 1], "x")


def bare(backbone: TokenBackbone, images: int) -> None:
    """Nothing but the model, in the same arithmetic and batches, on tensors that lie ready."""
    import torch

    batch = cpu_batch_size(backbone, 224)
    x = torch.zeros((batch, 3, 224, 224))
    with ExitStack() as stack:
        for context in (torch.inference_mode(), *backbone.precision()):
            stack.enter_context(context)
        for start in range(0, images, batch):
            backbone.tokens(x[: images - start])


def hashing(files: Sequence[Path], repetitions: int) -> None:
    """Content hashes, of files in the page cache and of bytes in memory."""
    contents = [file.read_bytes() for file in files]
    size = f"files of {np.mean([len(c) for c in contents]) / 1e3:.0f} kB"
    actions: dict[str, Callable[[], object]] = {
        f"content hash of {size}, read": lambda: [content_hash(f.read_bytes()) for f in files],
        f"content hash of {size}, in memory": lambda: [content_hash(c) for c in contents],
    }
    for question, found in in_turn(actions, repetitions).items():
        rates = [len(files) / cpu for _, cpu in found]
        report(question, rates, "files/s of processor time")


def report(question: str, values: Sequence[float] | npt.NDArray[np.float64], unit: str) -> None:
    """Print the median and the range."""
    number, spread = middle([float(v) for v in values])
    figure(question, number, unit, spread=spread, packages=PACKAGES)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--only", choices=["host", "forward", "hashing"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        files = write_photographs(Path(name) / "host" / "images", 64, 6)
        if options.only in {None, "host"}:
            host_side(files, options.repetitions)
        if options.only in {None, "hashing"}:
            hashing(files, options.repetitions)
        if options.only in {None, "forward"}:
            few = write_photographs(Path(name) / "forward" / "images", 64, 10)
            folder = checkpoint(Path(name) / "checkpoint")
            forward_side(few, folder, options.repetitions)


if __name__ == "__main__":
    main()
