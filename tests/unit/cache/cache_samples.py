"""Small stores for the tests of this folder."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from selectkit.cache import FeatureStore, IndexPart
from selectkit.location import Url

FINGERPRINT = {"backbone": "tiny", "preprocessing": {"size": 224}}
FEATURES: Mapping[str, tuple[int, str]] = {"cls": (6, "float16"), "patch_mean": (6, "bfloat16")}
FAILED = 5  # this row has no image


def part(rows: range) -> IndexPart:
    """Row i: label i mod 3, every seventh unlabelled; pairs of even rows share a group."""
    failed = [i == FAILED for i in rows]
    return IndexPart(
        id=[f"image-{i}" for i in rows],
        path=[f"folder/{i}.jpg" for i in rows],
        label=[None if i % 7 == 0 else str(i % 3 + 9) for i in rows],
        group=[None if i % 2 else f"site-{i // 4}" for i in rows],
        content_hash=[
            "" if bad else f"sha256:{i:04d}" for i, bad in zip(rows, failed, strict=True)
        ],
        status=["failed:truncated" if bad else "ok" for bad in failed],
        width=[640] * len(rows),
        height=[480] * len(rows),
    )


def values(n: int, dim: int = 6) -> npt.NDArray[np.float32]:
    """Row i is the same whatever n; the failed row is NaN."""
    x = np.random.default_rng(0).normal(size=(1000, dim)).astype(np.float32)[:n]
    x[FAILED : FAILED + 1] = np.nan
    return x


def write_shard(store: FeatureStore, shard: int, view: str = "base") -> None:
    rows = store.shard_rows(shard)
    x = values(rows.stop)[rows.start :]
    store.write_index(shard, part(rows))
    store.write_features(view, shard, dict.fromkeys(store.view(view).features, x))


def filled(
    path: Path | Url,
    rows: int = 25,
    rows_per_shard: int = 10,
    features: Mapping[str, tuple[int, str]] = FEATURES,
) -> FeatureStore:
    """A store with one view, `base`, all of it committed."""
    store = FeatureStore.create(
        path, source={"folder": "images"}, rows=rows, rows_per_shard=rows_per_shard
    )
    store.create_view("base", fingerprint=FINGERPRINT, features=features)
    for shard in range(store.n_shards):
        write_shard(store, shard)
    return store
