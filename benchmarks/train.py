"""Is training a head as fast as its matrix products, and a sweep hardly slower than one head?

Run `python -m benchmarks.train > benchmarks/results/train.jsonl`. All times are CPU seconds of one
process on one thread, best of three taken in turn. Peers and floors of the same run: the ordinary
torch loop over a DataLoader and over slices of the same tensors; the matrix products alone, of the
shapes, the precision and the number of the fit's, and nothing else; 32 fits one after the other.
A sweep cannot cost less than its products: where these alone cost more than six times one head, as
with 64 hidden units, no batching brings the sweep to six.
The last figure is the peak resident memory of a process that fits off a memory-mapped file.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks._figures import figure
from selectkit.heads import (
    CrossEntropy,
    Loss,
    MlpHead,
    Recipe,
    SelectiveNet,
    ThreeHead,
    fit_many,
)

PACKAGES = ("numpy", "torch", "selectkit")
Data = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]

PEAK = """
from pathlib import Path
status = Path("/proc/self/status").read_text()  # getrusage would count the parent before exec
print(1024 * int(status.partition("VmHWM:")[2].split()[0]))
"""

PEAK_OF_A_FIT = """
import sys
import numpy as np
from selectkit.heads import LazyRows, MlpHead, Recipe
path, n, d, hidden = sys.argv[1], *map(int, sys.argv[2:])
x = np.memmap(path, dtype=np.float16, mode="r", shape=(n, d))
y = np.load(path + ".labels.npy")
select = LazyRows(x, rows=np.arange(0, n, 10)), y[::10]
recipe = Recipe(hidden=hidden or None, epochs=1)
MlpHead.fit(x, y, select=select, n_classes=2, recipe=recipe)
"""


def cpu_seconds(
    actions: Mapping[str, Callable[[], object]], repetitions: int
) -> dict[str, tuple[float, tuple[float, float]]]:
    """Smallest, and smallest and largest, time of each action, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repetitions):
        for name, action in actions.items():
            start = process_time()
            action()
            times[name].append(process_time() - start)
    return {name: (min(found), (min(found), max(found))) for name, found in times.items()}


def noisy(n: int, d: int, k: int) -> Data:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d), dtype=np.float32)
    scores = x @ (rng.standard_normal((d, k)) / d**0.5).astype(np.float32)
    return x, (scores + rng.standard_normal((n, k))).argmax(axis=1)


def ordinary_loop(batches: Callable[[], Iterable[Any]], d: int, k: int, epochs: int) -> None:
    model = torch.nn.Linear(d, k)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for x, y in batches():
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def slices(x: torch.Tensor, y: torch.Tensor, size: int) -> Iterator[Any]:
    order = torch.randperm(len(x))
    for start in range(0, len(x), size):
        chosen = order[start : start + size]
        yield x[chosen], y[chosen]


def linear_head(n: int, repetitions: int) -> None:
    d, k, epochs = 384, 2, 10
    x, y = noisy(n, d, k)
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    loader = DataLoader(TensorDataset(*tensors), batch_size=256, shuffle=True)
    recipe = Recipe(hidden=None, epochs=epochs, batch_size=256)
    times = cpu_seconds(
        {
            "ours": lambda: MlpHead.fit(
                x, y, select=(x[:1000], y[:1000]), n_classes=k, recipe=recipe
            ),
            "loader": lambda: ordinary_loop(lambda: loader, d, k, epochs),
            "slices": lambda: ordinary_loop(lambda: slices(*tensors, 256), d, k, epochs),
        },
        repetitions,
    )
    what = f"linear head by AdamW, X ({n:,} x {d}), 10 epochs, batch 256"
    best, spread = times["ours"]
    figure(what, best, "CPU s", spread=spread, packages=PACKAGES)
    for peer, name in (("loader", "a DataLoader loop"), ("slices", "a loop over tensor slices")):
        speed = times[peer][0] / best
        figure(f"{what}: times faster than {name}", speed, "x", packages=PACKAGES)


def products(rows: torch.Tensor, held_out: torch.Tensor, widths: list[int], epochs: int) -> None:
    """The matrix products of a fit: forward, two backward, and those on the held-out rows.

    `widths` are those of the layers: hidden units and outputs, or outputs alone.
    """
    n, d = rows.shape
    first, dtype = widths[0], rows.dtype
    w, du = torch.randn(first, d, dtype=dtype), torch.randn(512, first, dtype=dtype)
    wide = torch.randn(first, d)
    for _ in range(epochs):
        for start in range(0, n, 512):
            x = rows[start : start + 512]
            torch.mm(x, w.T), torch.mm(du[: len(x)].T, x)
        torch.mm(held_out, wide.T)
    if len(widths) == 1:
        return
    v, h, dz = torch.randn(widths[1], first), torch.randn(512, first), torch.randn(512, widths[1])
    kept = torch.randn(len(held_out), first)
    for _ in range(epochs):
        for start in range(0, n, 512):
            b = min(512, n - start)
            torch.mm(h[:b], v.T), torch.mm(dz[:b].T, h[:b]), torch.mm(dz[:b], v)
        torch.mm(kept, v.T)


def against_products(n: int, epochs: int, repetitions: int) -> None:
    d, hidden = 1280, 768
    x, y = noisy(n, d, 2)
    select = x[: n // 10], y[: n // 10]
    held_out = torch.from_numpy(select[0])
    cases: list[tuple[Any, Loss, int]] = [
        (MlpHead, CrossEntropy(), 2), (ThreeHead, SelectiveNet(), 5)
    ]  # fmt: skip
    for head, loss, n_outputs in cases:
        floors = {}
        for precision in ("float32", "bfloat16"):
            rows = torch.from_numpy(x).to(getattr(torch, precision))
            recipe = Recipe(epochs=epochs, patience=epochs, loss=loss, precision=precision)
            times = cpu_seconds(
                {
                    "ours": partial(head.fit, x, y, select=select, n_classes=2, recipe=recipe),
                    "floor": partial(products, rows, held_out, [hidden, n_outputs], epochs),
                },
                repetitions,
            )
            what = f"{head.__name__}, X ({n:,} x {d}), hidden 768, batch 512, {epochs} epochs"
            best, spread = times["ours"]
            floors[precision] = times["floor"][0]
            figure(f"{what}, {precision}", best, "CPU s", spread=spread, packages=PACKAGES)
            for other, floor in floors.items():
                ratio = best / floor
                figure(f"{what}, {precision}: over its matrix products alone in {other}", ratio,
                       "x", packages=PACKAGES)  # fmt: skip


def final_losses(n: int, epochs: int, n_seeds: int) -> None:
    x, y = noisy(n, 1280, 2)
    base = Recipe(epochs=epochs, patience=epochs, weight_decay=0.1)
    ends = {}
    for precision in ("float32", "bfloat16"):
        heads = [
            MlpHead.fit(
                x, y, select=(x[:1000], y[:1000]), n_classes=2,
                recipe=replace(base, precision=precision, seed=s, order_seed=s),
            )
            for s in range(n_seeds)
        ]  # fmt: skip
        ends[precision] = np.array([head.history[-1].train_loss for head in heads])
    gap = float(np.abs(ends["bfloat16"] - ends["float32"]).max())
    noise = float(ends["float32"].std(ddof=1))
    what = f"MlpHead, X ({n:,} x 1280), {epochs} epochs, final training loss over {n_seeds} seeds"
    figure(f"{what}: largest change by bfloat16, same seed", gap, "nats", packages=PACKAGES)
    figure(f"{what}: standard deviation over seeds", noise, "nats", packages=PACKAGES)


def sweep(n: int, d: int, k: int, hidden: int | None, repetitions: int) -> None:
    x, y = noisy(n, d, k)
    data: Any = {"select": (x[:1000], y[:1000]), "n_classes": k}
    rows = torch.from_numpy(x)
    base = Recipe(hidden=hidden, epochs=5, patience=5)
    many = [replace(base, seed=i % 4, learning_rate=10 ** (-4 + i / 12)) for i in range(32)]
    widths = [32 * k] if hidden is None else [32 * hidden, k]
    times = cpu_seconds(
        {
            "one": lambda: MlpHead.fit(x, y, **data, recipe=base),
            "together": lambda: fit_many(MlpHead, x, y, **data, recipes=many),
            "in turn": lambda: [MlpHead.fit(x, y, **data, recipe=r) for r in many],
            "floor": lambda: products(rows, rows[:1000], widths, 5),
            "bfloat16": lambda: products(rows.bfloat16(), rows[:1000], widths, 5),
        },
        repetitions,
    )
    name = "linear heads" if hidden is None else f"heads with {hidden} hidden units"
    what = f"sweep of 32 {name}, X ({n:,} x {d}), K = {k}, 5 epochs"
    best, spread = times["together"]
    one = times["one"][0]
    figure(what, best, "CPU s", spread=spread, packages=PACKAGES)
    for other, number in (
        ("over one of them", best / one),
        ("its matrix products alone over one of them", times["floor"][0] / one),
        ("its matrix products alone in bfloat16 over one of them", times["bfloat16"][0] / one),
        ("over its matrix products alone", best / times["floor"][0]),
        ("times faster than 32 fits", times["in turn"][0] / best),
    ):
        figure(f"{what}: {other}", number, "x", packages=PACKAGES)


def memory(n: int, hidden: int) -> None:
    d = 1280
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/features.f16"
        rng = np.random.default_rng(0)
        w = rng.standard_normal(d, dtype=np.float32)
        labels = []
        with Path(path).open("wb") as file:
            for start in range(0, n, 10_000):
                x = rng.standard_normal((min(10_000, n - start), d), dtype=np.float32)
                x.astype(np.float16).tofile(file)
                labels.append((x @ w > 0).astype(np.int64))
        np.save(path + ".labels.npy", np.concatenate(labels))
        command = [sys.executable, "-c", PEAK_OF_A_FIT + PEAK, path, str(n), str(d), str(hidden)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        empty = [sys.executable, "-c", "import torch" + PEAK]
        torch_alone = subprocess.run(empty, check=True, capture_output=True, text=True).stdout
    what = f"peak resident memory, hidden = {hidden or None}, off float16 file ({n:,} x {d})"
    figure(what, int(printed) / 1e9, "GB", packages=PACKAGES)
    figure("peak resident memory of `import torch`", int(torch_alone) / 1e9, "GB",
           packages=PACKAGES)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="small sizes, to try it out")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    repetitions = 1 if quick else 3
    linear_head(5_000 if quick else 100_000, repetitions)
    against_products(2_000 if quick else 20_000, 2 if quick else 10, repetitions)
    final_losses(2_000 if quick else 20_000, 2 if quick else 5, 3 if quick else 5)
    for d, k, hidden in ((384, 2, None), (384, 10, None), (1280, 2, None), (64, 10, 16),
                         (384, 2, 16), (384, 2, 64)):  # fmt: skip
        sweep(2_000 if quick else 20_000, d, k, hidden, repetitions)
    for hidden in (0, 768):
        memory(20_000 if quick else 1_000_000, hidden)


if __name__ == "__main__":
    main()
