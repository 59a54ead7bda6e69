"""The one backbone class: a frozen token model, its pooling and its fingerprint."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from selectkit.errors import BackboneError
from selectkit.extract.preprocess import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

POOLING = "cls after final norm; patch mean without cls and registers"


@dataclass(frozen=True, slots=True, eq=False)
class TokenBackbone:
    """A vision transformer that returns one class token, registers, and patch tokens.

    Attributes:
        id: A name that `load_backbone` takes.
        dim: D.
        patch_size: Side of a patch in pixels.
        preprocessing: Default geometry, and the normalisation applied here.
        model: In eval mode, without gradients.
        tokens: The model's forward: (B, 3, H, W) float32 to (B, 1 + R + N, D) after the final
            norm.
        n_prefix: 1 + R: tokens before the first patch, the class token and R registers.
        device: For instance "cpu" or "cuda".
        dtype: "float32", or "bfloat16" for automatic mixed precision.
        identity: Library, versions, class and weights hash.
        only_size: The one side the model takes, None when any multiple of the patch will do.
    """

    id: str
    dim: int
    patch_size: int
    preprocessing: Preprocessing
    model: "nn.Module" = field(repr=False)
    tokens: "Callable[[Tensor], Tensor]" = field(repr=False)
    n_prefix: int
    device: str
    dtype: str
    identity: Mapping[str, str] = field(repr=False)
    only_size: int | None = None

    def fingerprint(self) -> dict[str, Any]:
        """Return what the features depend on, besides the pixels.

        The device is left out: CPU and CUDA agree to float32 rounding, and a store begun on one
        may be completed on the other.

        Returns:
            JSON types: id, library, versions, class, weights hash, compute dtype, pooling,
            normalisation.
        """
        return {
            "id": self.id,
            **self.identity,
            "dtype": self.dtype,
            "pooling": POOLING,
            "mean": list(self.preprocessing.mean),
            "std": list(self.preprocessing.std),
        }

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """Compute features of a batch.

        Args:
            pixels: Shape (B, H, W, 3), uint8, H and W multiples of `patch_size`.

        Returns:
            "cls" and "patch_mean", each (B, D) float32.

        Raises:
            BackboneError: If shape or dtype is wrong, the device has too little memory, or the
                model was switched to train mode (in which DINOv3 rescales its position
                coordinates at random).
        """
        import torch

        self._check(pixels)
        with ExitStack() as stack:
            for context in self._precision():
                stack.enter_context(context)
            x = torch.tensor(pixels).to(self.device).permute(0, 3, 1, 2).contiguous().float()
            mean, std = (
                torch.tensor(v, device=x.device).view(1, 3, 1, 1)
                for v in (self.preprocessing.mean, self.preprocessing.std)
            )
            try:
                tokens = self.tokens((x / 255 - mean) / std).float()
            except torch.OutOfMemoryError:
                raise BackboneError(
                    f"{self.device} has too little memory for {len(pixels)} images of "
                    f"{pixels.shape[1]} x {pixels.shape[2]} at once. Lower the batch size."
                ) from None
            pooled = {"cls": tokens[:, 0], "patch_mean": tokens[:, self.n_prefix :].mean(dim=1)}
            return {name: x.cpu().numpy() for name, x in pooled.items()}

    def _check(self, pixels: npt.NDArray[np.uint8]) -> None:
        shape = pixels.shape
        if pixels.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
            raise BackboneError(
                f"pixels must be uint8 of shape (B, H, W, 3), got {pixels.dtype} {shape}."
            )
        if shape[1] % self.patch_size or shape[2] % self.patch_size:
            raise BackboneError(
                f"{self.id} needs sides that are multiples of {self.patch_size}, got "
                f"{shape[1]} x {shape[2]}."
            )
        if self.only_size and shape[1:3] != (self.only_size, self.only_size):
            raise BackboneError(
                f"{self.id} takes only images of {self.only_size} x {self.only_size}, got "
                f"{shape[1]} x {shape[2]}. Set the size to {self.only_size}."
            )
        if self.model.training:
            raise BackboneError(f"{self.id} is in train mode. Call its model.eval() first.")

    def _precision(self) -> list[Any]:
        import torch

        kind = self.device.split(":")[0]
        contexts: list[Any] = [torch.inference_mode()]
        if kind == "cuda":  # the patch embedding is a convolution: TF32 would cost three digits
            contexts.append(torch.backends.cudnn.flags(enabled=True, allow_tf32=False))
        if self.dtype == "bfloat16":
            contexts.append(torch.autocast(kind, dtype=torch.bfloat16))
        return contexts


def weights_hash(model: "nn.Module") -> str:
    """Hash all weights of a model: name, dtype, shape and bytes, in order of name.

    Args:
        model: Any module, on any device.

    Returns:
        "sha256:<hex>". Equal weights give equal hashes wherever their files lie.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return "sha256:" + digest.hexdigest()
