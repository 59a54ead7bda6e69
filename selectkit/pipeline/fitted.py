"""A fitted head with what its inputs and outputs mean: view and feature, classes, rows it saw."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from selectkit import artifact, heads
from selectkit.cache import FeatureStore, Rows
from selectkit.errors import DataError

R = TypeVar("R", bound=Rows)


@dataclass(frozen=True)
class FittedHead:
    """A head with everything that says what its inputs and outputs mean."""

    head: heads.Head
    document: dict[str, Any]
    hash: str
    fitted_images: npt.NDArray[np.uint64]

    @property
    def classes(self) -> tuple[str, ...]:
        """Label names in the order of the logits."""
        return tuple(self.document["classes"])

    @property
    def positive(self) -> int | None:
        """Index of the positive class, None when there is none."""
        label = self.document["positive"]
        return None if label is None else self.classes.index(label)

    @property
    def view(self) -> str:
        """View of the store that the head reads; "a+b" for a and b side by side."""
        return str(self.document["view"])

    @property
    def home(self) -> str:
        """View in which its logits lie: the first that it reads."""
        return self.view.partition("+")[0]

    @property
    def feature(self) -> str:
        """Feature of the view that the head reads."""
        return str(self.document["feature"])

    @property
    def name(self) -> str:
        """Name under which the logits stand in the store."""
        return f"{self.document['type']}-{self.hash.removeprefix('sha256:')[:12]}"

    def seen_elsewhere(self, store: FeatureStore) -> int:
        """Return how many images of val_calib and val_test the head was fitted on.

        Images that also stand in the store's own train or val_select are not counted: they are
        identical copies in several groups, of which `selectkit split` warns.
        """
        index = store.index()
        split, images = store.splits.assign(index.key), image_keys(index.content_hash)
        held_out = images[np.isin(split, ("val_calib", "val_test"))]
        copies = images[np.isin(split, ("train", "val_select"))]
        return int((np.isin(held_out, self.fitted_images) & ~np.isin(held_out, copies)).sum())


def image_keys(content_hashes: npt.NDArray[np.object_]) -> npt.NDArray[np.uint64]:
    """Return the first 64 bits of content hashes; 0 for files that could not be read."""
    digits = (str(h).removeprefix("sha256:")[:16] or "0" for h in content_hashes)
    return np.array([int(d, 16) for d in digits], dtype=np.uint64)


def view_hash(store: FeatureStore, view: str) -> str:
    """Return the hash of a view, or of several, "a+b", in their order."""
    hashes = [store.view(name).hash for name in view.split("+")]
    return hashes[0] if len(hashes) == 1 else artifact.content_hash(hashes)


def recode(features: R, classes: tuple[str, ...]) -> R:
    """Give class codes their meaning in `classes`; rows of classes it lacks are refused.

    Raises:
        DataError: If a label is none of `classes`.
    """
    if features.classes == classes:
        return features
    lookup = np.array(
        [classes.index(name) if name in classes else -2 for name in features.classes] + [-1]
    )
    y: npt.NDArray[np.int64] = lookup[features.y]
    if (y == -2).any():
        unknown = sorted({features.classes[code] for code in features.y[y == -2]})
        raise DataError(
            f"the store has labels {unknown} that the head was not fitted on "
            f"(it knows {list(classes)}). Fit again."
        )
    return replace(features, y=y, classes=classes)
