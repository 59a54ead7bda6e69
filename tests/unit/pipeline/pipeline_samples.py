"""Stores made of arrays, for tests of what is fitted on them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from selectkit.cache import FeatureStore, IndexPart, SplitScheme
from selectkit.pipeline import calibrate, fit

Floats = npt.NDArray[np.float64]


def blobs(
    n: int, d: int = 6, k: int = 2, seed: int = 0, distance: float = 1.5
) -> tuple[Floats, list[str | None]]:
    """Rows of K overlapping clouds, and their labels "a", "b", ..."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    centres = rng.normal(size=(k, d))
    return distance * centres[y] + rng.normal(size=(n, d)), [chr(97 + c) for c in y]


def content_hash(image: int) -> str:
    """What stands for the content of an image."""
    return "sha256:" + hashlib.sha256(b"%d" % image).hexdigest()


def rows_in(split: str, n: int) -> list[int]:
    """Rows of `store_of` without groups that lie in a split."""
    splits = SplitScheme().assign([content_hash(i) for i in range(n)])
    return [i for i in range(n) if splits[i] == split]


def store_of(
    path: Path,
    x: Floats,
    labels: Sequence[str | None],
    groups: Sequence[str | None] | None = None,
    images: Sequence[int] | None = None,
    rows_per_shard: int = 100,
) -> FeatureStore:
    """A store with the view `base` and its feature `cls`; equal numbers in `images` are copies."""
    n = len(x)
    store = FeatureStore.create(path, source={}, rows=n, rows_per_shard=rows_per_shard)
    hashes = [content_hash(i) for i in (images or range(n))]
    for shard in range(store.n_shards):
        rows = store.shard_rows(shard)
        m = len(rows)
        part = IndexPart(
            id=[f"image-{i}" for i in rows],
            path=[f"{i}.jpg" for i in rows],
            label=[labels[i] for i in rows],
            group=[None if groups is None else groups[i] for i in rows],
            content_hash=[hashes[i] for i in rows],
            status=["ok"] * m,
            width=[8] * m,
            height=[8] * m,
        )
        store.write_index(shard, part)
    add_view(store, "base", x)
    return store


def add_view(store: FeatureStore, view: str, x: Floats, shards: int | None = None) -> None:
    """Add a view with the feature `cls`, the first shards of it."""
    fingerprint = {"id": view}
    store.create_view(view, fingerprint=fingerprint, features={"cls": (x.shape[1], "float32")})
    for shard in range(store.n_shards if shards is None else shards):
        rows = store.shard_rows(shard)
        block = x[rows.start : rows.stop].astype(np.float32)
        store.write_features(view, shard, {"cls": block})


def small_and_big(folder: Path, n: int, positive: str | None = None) -> Path:
    """A store with a noisy view and a clean one of the same images, and a run on each.

    The run `big` is calibrated.
    """
    x, labels = blobs(n, distance=1.2)
    noisy = x + np.random.default_rng(1).normal(0, 1.5, x.shape)
    store = store_of(folder / "s.zarr", noisy, labels)
    add_view(store, "large", x)
    for name, view in (("small", "base"), ("big", "large")):
        fit(str(store.path), out=folder / name, view=view, positive=positive)
    calibrate(folder / "big", target="error=0.2")
    return folder
