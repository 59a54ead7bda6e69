"""What a head is fitted on: rows of train and val_select, read when they are needed."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from selectkit import heads
from selectkit.cache import FeatureStore, Rows
from selectkit.config import FitConfig
from selectkit.errors import ConfigError, DataError
from selectkit.pipeline.fitted import image_keys, recode, view_hash
from selectkit.pipeline.logits import feature_blocks


@dataclass(frozen=True)
class Inputs:
    """One feature of one view, or of several side by side, of one store.

    Attributes:
        store: The store.
        view: View, or "a+b".
        feature: Feature of it.
        train: Labelled rows of train, or some of them.
        select: Labelled rows of val_select.
        positive: Index of the positive class, or None.
    """

    store: FeatureStore
    view: str
    feature: str
    train: Rows
    select: Rows
    positive: int | None

    @classmethod
    def of(cls, store: FeatureStore, config: FitConfig) -> Self:
        """Find the rows and check that a head can be fitted on them.

        Args:
            store: The store.
            config: Its view, feature and positive label are used.

        Returns:
            The inputs; no feature has been read.

        Raises:
            ConfigError: If a view or a feature is named twice.
            DataError: If there are too few labels or classes, or no such positive label.
            CacheError: If the store lacks the view, or is damaged.
        """
        for what in ("view", "feature"):
            names = getattr(config, what).split("+")
            if len(set(names)) < len(names):
                asked = "+".join(names)
                raise ConfigError(f"{what} = {asked!r} names a {what} twice; name each once.")
        view_hash(store, config.view)  # refuses a view that is not there
        train = _rows(store, config, "train")
        select = recode(_rows(store, config, "val_select"), train.classes)
        positive = positive_index(train.classes, config.positive)
        return cls(store, config.view, config.feature, train, select, positive)

    @property
    def classes(self) -> tuple[str, ...]:
        """The K label names in the order of the logits."""
        return self.train.classes

    @property
    def positive_label(self) -> str | None:
        """The positive label, None when there is none."""
        return None if self.positive is None else self.classes[self.positive]

    def features_of(self, rows: Rows) -> heads.LazyRows:
        """Return features of rows, not read yet."""
        arrays = self.store.arrays(self.view, self.feature, rows.rows)
        return heads.LazyRows(*arrays, rows=rows.rows)

    def without(self, left_out: npt.NDArray[np.bool_]) -> "Inputs":
        """Return the same inputs with fewer rows of train.

        Args:
            left_out: Shape (rows of train,).

        Returns:
            The inputs; the fingerprint of train tells which rows they are.
        """
        keep = ~left_out
        t = self.train
        digits = np.packbits(left_out).tobytes().hex()
        train = replace(
            t, rows=t.rows[keep], ids=t.ids[keep], y=t.y[keep], groups=t.groups[keep],
            fingerprint=f"{t.fingerprint} without {digits}",
        )  # fmt: skip
        return replace(self, train=train)

    def selecting(self, kept: npt.NDArray[np.bool_]) -> "Inputs":
        """Return the same inputs with fewer rows of val_select.

        Args:
            kept: Shape (rows of val_select,).

        Returns:
            The inputs; the fingerprint of val_select tells which rows they are.
        """
        s, digits = self.select, np.packbits(kept).tobytes().hex()
        select = replace(
            s, rows=s.rows[kept], ids=s.ids[kept], y=s.y[kept], groups=s.groups[kept],
            fingerprint=f"{s.fingerprint} with {digits}",
        )  # fmt: skip
        return replace(self, select=select)

    def identity(self) -> dict[str, Any]:
        """Return what a fit depends on, as JSON values."""
        return {
            "view": view_hash(self.store, self.view),
            "feature": self.feature,
            "train": self.train.fingerprint,
            "select": self.select.fingerprint,
            "positive": self.positive,
        }

    def images(self) -> npt.NDArray[np.uint64]:
        """Return the keys of the images that are fitted on or chosen by."""
        index = self.store.index()
        rows = np.concatenate([self.train.rows, self.select.rows])
        return image_keys(index.content_hash[np.isin(index.row, rows)])

    def name_what_is_not_finite(self) -> None:
        """Look for a feature that is not finite.

        Raises:
            DataError: If there is one; the id of its row is named.
        """
        for rows in (self.train, self.select):
            for _ in feature_blocks(self.store, self.view, self.feature, rows):
                pass

    def warnings(self) -> tuple[str, ...]:
        """Return what the user should look at."""
        held = sum(self.store.committed(self.view).values())
        lines = []
        if held < self.store.rows:
            lines.append(
                f"view {self.view} holds {held:,} of {self.store.rows:,} rows; run extract again "
                "to complete it"
            )
        for rows in (self.train, self.select):
            missing = [c for k, c in enumerate(self.classes) if not (rows.y == k).any()]
            if missing:
                lines.append(f"{rows.split} has no image of: {', '.join(missing)}")
        return tuple(lines)


def folds_of(groups: npt.NDArray[np.object_], k: int) -> npt.NDArray[np.int64]:
    """Deal groups out to folds, in the order of a hash: all rows of a group lie in one fold.

    Args:
        groups: Shape (N,).
        k: Number of folds.

    Returns:
        Shape (N,), in [0, k). The folds' numbers of groups differ by at most one.

    Raises:
        DataError: If there are fewer groups than folds.
    """
    names = sorted(set(groups), key=lambda g: hashlib.sha256(f"fold\0{g}".encode()).digest())
    if len(names) < k:
        raise DataError(
            f"{k} folds need as many groups; train has {len(names)}. Use fewer --folds."
        )
    number = {name: i % k for i, name in enumerate(names)}
    return np.array([number[name] for name in groups], dtype=np.int64)


def positive_index(classes: tuple[str, ...], label: str | None) -> int | None:
    """Return the index of the positive class.

    Args:
        classes: Label names.
        label: The asked label, or None for the default: the last of two classes, none of more.

    Returns:
        The index, or None when there is no positive class.

    Raises:
        DataError: If no class has that label.
    """
    if label is None:
        return 1 if len(classes) == 2 else None
    if label not in classes:
        raise DataError(f"positive label {label!r} is none of the labels {list(classes)}.")
    return classes.index(label)


def _rows(store: FeatureStore, config: FitConfig, split: str) -> Rows:
    rows = store.rows_of(config.view, split)
    if len(rows.classes) < 2:
        raise DataError(
            f"{store.path} has {len(rows.classes)} distinct labels {list(rows.classes)}; "
            "a classifier needs at least 2."
        )
    if len(np.unique(rows.y)) < 2 and (split == "train" or not len(rows.y)):
        raise DataError(
            f"split {split} of {store.path} has {len(rows.y)} labelled images of "
            f"{len(np.unique(rows.y))} class; fitting needs at least 2 classes. "
            f"`selectkit split {store.path}` shows the sizes."
        )
    return rows
