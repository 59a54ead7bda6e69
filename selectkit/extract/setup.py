"""What is done alone before shards are written: rows, source and view."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from selectkit.cache import FeatureStore, Index
from selectkit.cache.dtypes import decode, encode
from selectkit.errors import CacheError, ConfigError
from selectkit.extract.backbones import Backbone
from selectkit.extract.backbones.capacity import auto_batch_size
from selectkit.extract.backbones.protocol import feature_dims
from selectkit.extract.changes import Changes, Update
from selectkit.extract.decode import JpegDecoder, decoder_policy
from selectkit.extract.flow import require_finite
from selectkit.extract.known import Kept
from selectkit.extract.listing import Record
from selectkit.extract.plan import Assignment, assign_rows, settle_fingerprint
from selectkit.extract.preprocess import Preprocessing
from selectkit.extract.sources import Source

DRIFT_TOLERANCE = 0.02

StoreDtype = Literal["float16", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a view is computed; the fields are described at `selectkit.extract.extract`."""

    view: str = "base"
    preprocessing: Preprocessing | None = None
    dtype: StoreDtype = "float16"
    batch_size: int | None = None
    rows_per_shard: int = 4096
    workers: int | None = None
    rescan: bool = False
    jpeg_decoder: JpegDecoder = "cpu"


@dataclass(slots=True)
class Setup:
    """Brings rows and view of a store up to date, or finds that they are.

    Attributes:
        source: The images.
        backbone: Computes the features.
        plan: The geometry.
        settings: The rest.
        records: The listing of the source.
        rows: Which record is in which row.
        changes: Rows that were there, and are not as they were.
        batch_size: Images per forward pass.
        kept: Features of shards that have to be written again because of other images.
        copies: Whether features of one image may be copied to another row: true when the backbone
            gives an image the same numbers wherever it stands in a batch.
    """

    source: Source
    backbone: Backbone
    plan: Preprocessing
    settings: Settings
    records: Sequence[Record] = field(init=False)
    rows: Assignment = field(init=False)
    changes: Changes = field(default_factory=Changes)
    batch_size: int = 1
    kept: Kept = field(default_factory=lambda: Kept())
    copies: bool = False

    def __post_init__(self) -> None:
        self.records = self.source.records()

    def prepare(self, store: FeatureStore) -> None:
        """Do all of it; the caller is the only writer.

        Args:
            store: The store.

        Raises:
            CacheError: If the store holds other images, groups, backbone or preprocessing.
        """
        update = self._update(store)
        update.keep = partial(self._keep, store)
        self.changes = update.apply()
        if len(self.rows.ordered) > store.rows or store.source != self.source.describe():
            store.grow(len(self.rows.ordered), self.source.describe())
        self._prepare_view(store)

    def prepared(self, store: FeatureStore) -> bool:
        """Return whether nothing is left to do; changes nothing.

        Args:
            store: The store.

        Returns:
            Whether shards can be computed.

        Raises:
            CacheError: As for `prepare`.
        """
        if self._update(store).is_due():
            return False
        there = (store.rows, store.source) == (len(self.rows.ordered), self.source.describe())
        if not there or self.settings.view not in store.views():
            return False
        self._prepare_view(store)
        return True

    def _keep(self, store: FeatureStore, part: Index, changed: Collection[int]) -> None:
        if self.settings.view in store.views():
            shard = int(part.row[0]) // store.rows_per_shard
            self.kept.add(store.shard_features(self.settings.view, shard), part, changed)

    def _update(self, store: FeatureStore) -> Update:
        self.rows = assign_rows(store, self.records, rescan=self.settings.rescan)
        return Update(store, self.source, self.plan, self.rows, self.settings.rescan)

    def _prepare_view(self, store: FeatureStore) -> None:
        view, dtype = self.settings.view, self.settings.dtype
        fingerprint = {
            **self.backbone.fingerprint(),
            "preprocessing": self.plan.to_dict(),
            "decoder": decoder_policy(self.settings.jpeg_decoder),
            "store_dtype": dtype,
        }
        dims = feature_dims(self.backbone)
        probe, self.copies, stored_drift = _probe(self.backbone, self.plan.size, dtype)
        self.batch_size = self._batch_size(store)
        info = store.create_view(
            view,
            fingerprint=settle_fingerprint(store, view, fingerprint),
            features={name: (dim, dtype) for name, dim in dims.items()},
            drift={
                **probe,
                "batch_size": self.batch_size,
                "precision": self._precision(stored_drift),
            },
        )
        stored = info.drift or {}
        for name in dims:
            before, now = np.array(stored.get(name, probe[name])), np.array(probe[name])
            moved = np.abs(now - before).max()
            if moved > DRIFT_TOLERANCE * np.abs(before).max():
                raise CacheError(
                    f"{store.path}: view {view!r} was begun on a machine that computes other "
                    f"numbers: feature {name!r} of the reference image moved by {moved:.3g}"
                    ". Continue it there, or extract into a new view."
                )

    def _precision(self, stored_drift: float) -> dict[str, float]:
        """How far computing and storing in fewer bits move features, as shares of their length."""
        found = {"compute": getattr(self.backbone, "drift", None) or 0.0, "store": stored_drift}
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def _batch_size(self, store: FeatureStore) -> int:
        """What is asked for; else what the view was begun with; else what the device takes."""
        if self.settings.batch_size is not None:
            return self.settings.batch_size
        known = self.settings.view in store.views()
        begun = (store.view(self.settings.view).drift or {}) if known else {}
        return int(begun.get("batch_size") or auto_batch_size(self.backbone, self.plan.size))


def check_settings(backbone: Backbone, plan: Preprocessing, settings: Settings) -> None:
    """Refuse what cannot be computed.

    Args:
        backbone: Its patches and normalisation.
        plan: The geometry.
        settings: The rest.

    Raises:
        ConfigError: If size, batch size, workers or normalisation do not fit.
    """
    if plan.size % backbone.patch_size:
        patch = backbone.patch_size
        near = max(patch, plan.size // patch * patch)
        raise ConfigError(
            f"image size {plan.size} is no multiple of the {patch} pixel patches of "
            f"{backbone.id}. Use {near} or {near + patch}."
        )
    normalisation = (backbone.preprocessing.mean, backbone.preprocessing.std)
    if (plan.mean, plan.std) != normalisation:
        raise ConfigError(
            f"mean and std must be those of {backbone.id}, {normalisation}; got "
            f"{(plan.mean, plan.std)}. Start from dataclasses.replace(backbone.preprocessing, ...)."
        )
    for name in ("batch_size", "workers"):
        number = getattr(settings, name)
        if number is not None and number < 1:
            raise ConfigError(f"{name} must be at least 1, got {number}.")


def begun_with(path: str | Path, view: str) -> Mapping[str, Any]:
    """Return the fingerprint of a view that is there already.

    Args:
        path: A store, or a place where nothing is.
        view: Name of the view.

    Returns:
        The fingerprint; empty when store or view are not there, or cannot be read.
    """
    try:
        store = FeatureStore.open(path)
        return store.view(view).fingerprint if view in store.views() else {}
    except CacheError:
        return {}


def _probe(
    backbone: Backbone, size: int, dtype: StoreDtype
) -> tuple[dict[str, list[float]], bool, float]:
    """The first eight features of a fixed pattern, to recognise a machine that differs.

    The pattern goes through twice, at two places of a batch; also whether both give the same, and
    how far the features move when they are stored, as a share of their length.
    """
    ramp = np.add.outer(7 * np.arange(size), 3 * np.arange(size))
    pattern = np.stack([ramp % 256, ramp // 2 % 256, ramp // 3 % 256], axis=-1).astype(np.uint8)
    features = backbone(np.stack([pattern, 255 - pattern, pattern]))
    require_finite(backbone, features, ["the reference image"] * 3)
    names = feature_dims(backbone)
    same = all(np.array_equal(features[name][0], features[name][2]) for name in names)
    moved = 0.0
    for name in names:
        x = features[name]
        stored = decode(encode(x, dtype, f"feature {name!r} of the reference image"), dtype)
        lengths = np.maximum(np.linalg.norm(x, axis=1), np.finfo(np.float32).tiny)
        moved = max(moved, float((np.linalg.norm(stored - x, axis=1) / lengths).max()))
    return {name: [float(v) for v in features[name][0, :8]] for name in names}, same, moved
