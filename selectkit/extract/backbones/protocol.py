"""What the extraction engine needs of a backbone."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from selectkit.extract.preprocess import Preprocessing


class Backbone(Protocol):
    """A frozen network from pixels to features. Users may bring their own.

    Attributes:
        id: A name that `load_backbone` takes.
        dim: D.
        patch_size: The image size must be a multiple of it.
        preprocessing: What it was made for; its mean and std are applied in `__call__`.
    """

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def patch_size(self) -> int: ...  # noqa: D102
    @property
    def preprocessing(self) -> Preprocessing: ...  # noqa: D102

    def fingerprint(self) -> dict[str, Any]:
        """Return JSON that changes whenever the features would."""
        ...

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """Return "cls" and "patch_mean", each (B, D) float32, of pixels (B, H, W, 3) uint8."""
        ...


@runtime_checkable
class SeveralFeatures(Protocol):
    """A backbone whose features are not just "cls" and "patch_mean" of length `dim`.

    Attributes:
        features: Length of a vector by name of the feature.
    """

    @property
    def features(self) -> Mapping[str, int]: ...  # noqa: D102


@runtime_checkable
class Overlapping(Protocol):
    """A backbone that can be given a batch before the one before is done.

    Attributes:
        lag: Batches that may be started before the first result is asked for.
    """

    @property
    def lag(self) -> int: ...  # noqa: D102

    def start(
        self, pixels: npt.NDArray[np.uint8]
    ) -> Callable[[], Mapping[str, npt.NDArray[np.float32]]]:
        """Begin a batch; the function returned waits for its features."""
        ...

    def pinned(self, pixels: npt.NDArray[np.uint8], count: int) -> AbstractContextManager[None]:
        """Be ready, within the block, for batches of up to `count` images that lie in `pixels`."""
        ...


@runtime_checkable
class Transferring(Protocol):
    """A backbone on a device of its own, to which pixels have to travel.

    Attributes:
        stalled: Seconds that the device stood still for pixels so far; None = nothing travels.
    """

    @property
    def stalled(self) -> float | None: ...  # noqa: D102


@runtime_checkable
class OnCores(Protocol):
    """A backbone that may compute on the cores on which images are decoded.

    Attributes:
        takes_all_cores: Whether it does, with a thread on each of them.
    """

    @property
    def takes_all_cores(self) -> bool: ...  # noqa: D102


def stalled(backbone: Backbone) -> float | None:
    """Return how long a backbone's device stood still for pixels so far.

    Args:
        backbone: Any.

    Returns:
        Seconds; None where that is not measured or nothing travels.
    """
    return backbone.stalled if isinstance(backbone, Transferring) else None


def feature_dims(backbone: Backbone) -> dict[str, int]:
    """Return what a backbone offers.

    Args:
        backbone: Any.

    Returns:
        Length of a vector by name of the feature.
    """
    if isinstance(backbone, SeveralFeatures):
        return dict(backbone.features)
    return {"cls": backbone.dim, "patch_mean": backbone.dim}
