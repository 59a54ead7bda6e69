"""What the extraction engine needs of a backbone."""

from typing import Any, Protocol

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
