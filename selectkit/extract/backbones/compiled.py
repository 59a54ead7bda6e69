"""The forward pass compiled for the CPU.

It is compiled for one number of images, so that the numbers of an image depend neither on the size
of its batch nor on its place there: a batch goes through in parts of that many, the last of them
filled up with black.
"""

from typing import TYPE_CHECKING

from selectkit.errors import BackboneError
from selectkit.extract.backbones.capacity import cpu_batch_size

if TYPE_CHECKING:
    from torch import Tensor

    from selectkit.extract.backbones.tokens import TokenBackbone


class CompiledPool:
    """Stands in for `TokenBackbone.pool`; compiled when it is first called."""

    def __init__(self, backbone: "TokenBackbone") -> None:
        """Nothing is compiled yet."""
        import torch

        self._backbone = backbone
        self._count = 0
        self._pool = torch.compile(backbone.pool, dynamic=False)

    def __call__(self, pixels: "Tensor", mean: "Tensor", std: "Tensor") -> "dict[str, Tensor]":
        """Compute features of a batch of any size.

        Args:
            pixels: Shape (B, H, W, 3), uint8.
            mean: As for `TokenBackbone.pool`.
            std: Likewise.

        Returns:
            Features by name, each (B, length) float32.

        Raises:
            BackboneError: If it cannot be compiled.
        """
        import torch

        if not self._count:
            fit = cpu_batch_size(self._backbone, pixels.shape[1])
            self._count = max(1, fit // self._backbone.views)
        parts = []
        for start in range(0, len(pixels), self._count):
            part = pixels[start : start + self._count]
            full = part.new_zeros((self._count, *part.shape[1:]))
            full[: len(part)] = part
            found = self._compiled(full, mean, std)
            parts.append({name: x[: len(part)] for name, x in found.items()})
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _compiled(self, pixels: "Tensor", mean: "Tensor", std: "Tensor") -> "dict[str, Tensor]":
        import torch

        try:
            return self._pool(pixels, mean, std)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # no compiler, an operation it does not know
            lines = (str(error).strip() or type(error).__name__).split("\n")
            raise BackboneError(
                f"{self._backbone.id} cannot be compiled here: {lines[0][:200]}. Install a C++ "
                "compiler (g++), or leave out --compile."
            ) from None
