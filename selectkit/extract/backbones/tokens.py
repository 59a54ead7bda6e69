"""The one backbone class: a frozen token model, its pooling and its fingerprint."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from selectkit.errors import BackboneError, ConfigError
from selectkit.extract.preprocess import Preprocessing
from selectkit.threads import usable_cores

if TYPE_CHECKING:
    from torch import Tensor, nn

    from selectkit.extract.backbones.compiled import CompiledPool
    from selectkit.extract.backbones.cuda import CudaQueue

POOLING = "cls after final norm; patch mean without cls and registers"


AUGMENTATION = "mean of the image and its mirror image"
FIVE_CROPS = "mean of five crops of {} pixels, corners and centre"


@dataclass(slots=True)
class _State:
    """What a backbone learns while it runs."""

    fits: int | None = None  # images that go through at once; known after memory ran out
    queue: "CudaQueue | None" = None
    compiled: "CompiledPool | None" = None
    stalled: float = 0.0  # seconds


@dataclass(frozen=True, slots=True, eq=False)
class TokenBackbone:
    """A vision transformer that returns one class token, registers, and patch tokens.

    Attributes:
        id: A name that `load_backbone` takes.
        dim: D.
        patch_size: Side of a patch in pixels; 1 when crops are taken here, so that any size does.
        preprocessing: Default geometry, and the normalisation applied here.
        model: In eval mode, without gradients.
        tokens: The model's forward: (B, 3, H, W) float32 to (B, 1 + R + N, D) after the final
            norm.
        n_prefix: 1 + R: tokens before the first patch, the class token and R registers.
        device: For instance "cpu" or "cuda".
        dtype: "float32", or "bfloat16" for automatic mixed precision.
        identity: Library, versions, class and weights hash.
        only_size: The one side the model takes, None when any multiple of the patch will do.
        last_cls: From the input of `tokens` and n to its result and the class tokens of the last n
            blocks after the final norm, oldest first, (B, n * D); None when the model has none.
        last: n > 0 adds the feature "cls_last<n>", what `last_cls` returns (Oquab et al. 2024,
            arXiv 2304.07193, linear evaluation).
        flip: Whether features are the mean over the image and its mirror image.
        crop: c > 0: features are the mean over five crops of c x c (see `five_crops`).
        compiled: Whether the forward pass is compiled on the CPU, too; on CUDA it always is.
        drift: bfloat16: how far it moves the features of reference images, as a share of their
            length; None in float32.
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
    last_cls: "Callable[[Tensor, int], tuple[Tensor, Tensor]] | None" = field(
        default=None, repr=False
    )
    last: int = 0
    flip: bool = False
    crop: int = 0
    compiled: bool = False
    drift: float | None = None
    _state: _State = field(default_factory=_State, init=False, repr=False)

    @property
    def features(self) -> dict[str, int]:
        """Length of a vector by name of the feature."""
        more = {f"cls_last{self.last}": self.last * self.dim} if self.last else {}
        return {"cls": self.dim, "patch_mean": self.dim, **more}

    @property
    def views(self) -> int:
        """Of how many pictures of an image the features are the mean."""
        return (5 if self.crop else 1) * (2 if self.flip else 1)

    @property
    def lag(self) -> int:
        """Batches to start before the first result is asked for: 1 on CUDA, else 0."""
        return int(self.device.startswith("cuda"))

    @property
    def takes_all_cores(self) -> bool:
        """Whether a batch is computed with a thread on every core that this process may use."""
        import torch

        return self.device == "cpu" and torch.get_num_threads() >= usable_cores()

    @property
    def stalled(self) -> float | None:
        """Seconds that the device stood still for pixels so far; None on the CPU."""
        return self._state.stalled if self.lag else None

    def stood_still(self, seconds: float) -> None:
        """Add to `stalled`.

        Args:
            seconds: Between the end of one batch and the arrival of the next one's pixels.
        """
        self._state.stalled += seconds

    def five_crops(self, plan: Preprocessing | None = None) -> "TokenBackbone":
        """Return this backbone with features that are means over five crops of each image.

        The crops are the four corners and the centre of the square that the resize leaves around
        the centre crop, for 224 pixels one of 256 (Krizhevsky, Sutskever and Hinton 2012, section
        4.1; with `flip` their ten patches). They are cut on the device.

        Args:
            plan: The geometry of one crop, with a margin; None = the backbone's own.

        Returns:
            The backbone. Its `preprocessing` gives the square from which the crops are cut.

        Raises:
            ConfigError: If there is no margin, or the model does not take the size of the crop.
        """
        plan = plan or self.preprocessing
        if plan.mode == "squash" or plan.shorter == plan.size:
            raise ConfigError(
                "five crops need a margin around the centre crop, which this preprocessing does "
                "not leave. Use meta-eval with a resize above the size."
            )
        if plan.size % self.patch_size or (self.only_size or plan.size) != plan.size:
            near = self.only_size or max(self.patch_size, plan.size - plan.size % self.patch_size)
            raise ConfigError(
                f"{self.id} takes no crops of {plan.size} x {plan.size}. Use a size of {near}."
            )
        square = replace(plan, size=plan.shorter, resize=plan.shorter)
        return replace(self, crop=plan.size, preprocessing=square, patch_size=1, only_size=None)

    def fingerprint(self) -> dict[str, Any]:
        """Return what the features depend on, besides the pixels.

        The device is left out: CPU and CUDA agree to float32 rounding, and a store begun on one
        may be completed on the other.

        Returns:
            JSON types: id, library, versions, class, weights hash, compute dtype, pooling,
            normalisation, and the augmentation and that the forward pass is compiled, if it is so.
        """
        more: dict[str, Any] = {"compiled": True} if self.compiled else {}
        if self.flip or self.crop:
            more["augmentation"] = self._augmentation
        return {
            "id": self.id,
            **self.identity,
            "dtype": self.dtype,
            "pooling": POOLING,
            "mean": list(self.preprocessing.mean),
            "std": list(self.preprocessing.std),
            **more,
        }

    @property
    def _augmentation(self) -> str:
        if not self.crop:
            return AUGMENTATION
        return FIVE_CROPS.format(self.crop) + (", and their mirror images" if self.flip else "")

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """Compute features of a batch.

        Args:
            pixels: Shape (B, H, W, 3), uint8, H and W multiples of `patch_size`.

        Returns:
            Features by name, each (B, length) float32. When memory runs out, half as many images
            go through at once from then on.

        Raises:
            BackboneError: If shape or dtype is wrong, the device has too little memory for one
                image, or the model was switched to train mode (in which DINOv3 rescales its
                position coordinates at random).
        """
        import torch

        self._check(pixels)
        fits = self._state.fits or len(pixels)
        try:
            parts = [self._run(pixels[i : i + fits]) for i in range(0, len(pixels), fits)]
        except torch.OutOfMemoryError:
            self.halve(min(fits, len(pixels)), pixels.shape[1:3])
            return self(pixels)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def start(
        self, pixels: npt.NDArray[np.uint8]
    ) -> Callable[[], Mapping[str, npt.NDArray[np.float32]]]:
        """Begin a batch; on CUDA it is computed while the next one is prepared.

        Args:
            pixels: As for a call; not to be changed until the result is there.

        Returns:
            Waits for what a call returns.
        """
        if self._state.queue is None or self._state.fits:
            return partial(self, pixels)
        self._check(pixels)
        return self._state.queue.start(pixels)

    @contextmanager
    def pinned(self, pixels: npt.NDArray[np.uint8], count: int) -> Iterator[None]:
        """Page-lock the memory that batches lie in, on CUDA; batches for `start` are padded there.

        Args:
            pixels: All of it, shape (n, size, size, 3).
            count: Images of a full batch.

        Yields:
            Nothing.
        """
        if not self.lag:
            yield
            return
        from selectkit.extract.backbones.cuda import CudaQueue, page_locked

        shape = (count, *pixels.shape[1:])
        if self._state.queue is None or self._state.queue.shape != shape:
            self._state.queue = CudaQueue(self, shape)
        with page_locked(pixels):
            yield

    def halve(self, images: int, sides: tuple[int, ...]) -> None:
        """Remember that memory did not suffice.

        Args:
            images: That many at once were too many.
            sides: Height and width in pixels, for the message.

        Raises:
            BackboneError: If it was one image.
        """
        import torch

        if images == 1:
            raise BackboneError(
                f"{self.device} has too little memory for one image of {sides[0]} x {sides[1]}. "
                "Take a smaller size or backbone, or another device."
            )
        self._state.fits = images // 2
        if self.lag:
            torch.cuda.empty_cache()

    def _run(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        import torch

        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            for context in self.precision():
                stack.enter_context(context)
            there = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(self.device)
            found = self._pool(there, *self.normalisation())
            return {name: x.cpu().numpy() for name, x in found.items()}

    def _pool(self, pixels: "Tensor", mean: "Tensor", std: "Tensor") -> "dict[str, Tensor]":
        if not self.compiled or self.lag:
            return self.pool(pixels, mean, std)
        if self._state.compiled is None:
            from selectkit.extract.backbones.compiled import CompiledPool

            self._state.compiled = CompiledPool(self)
        return self._state.compiled(pixels, mean, std)

    def normalisation(self) -> "tuple[Tensor, Tensor]":
        """Return mean and standard deviation on the device, each (1, 3, 1, 1)."""
        import torch

        mean, std = (
            torch.tensor(v, device=self.device).view(1, 3, 1, 1)
            for v in (self.preprocessing.mean, self.preprocessing.std)
        )
        return mean, std

    def pool(self, pixels: "Tensor", mean: "Tensor", std: "Tensor") -> "dict[str, Tensor]":
        """Normalise, compute and pool, all on the device of the pixels.

        Args:
            pixels: Shape (B, H, W, 3), uint8.
            mean: What `normalisation` returns first,
            std: and second.

        Returns:
            Features by name, each (B, length) float32.
        """
        import torch

        x = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        x = x.div_(255).sub_(mean).div_(std)
        views = self._views(x)
        if len(views) == 1:
            return self._features(x)
        if x.is_cuda or self.compiled:  # in one pass the model is compiled once
            stacked = self._features(torch.cat(views))
            return {k: v.view(len(views), len(x), -1).mean(dim=0) for k, v in stacked.items()}
        parts = [self._features(view) for view in views]
        return {k: torch.stack([part[k] for part in parts]).mean(dim=0) for k in parts[0]}

    def _views(self, x: "Tensor") -> "list[Tensor]":
        """What the features are the mean of; each (B, 3, H, W)."""
        views = [x]
        if self.crop:
            bottom, right = x.shape[2] - self.crop, x.shape[3] - self.crop
            middle = (round(bottom / 2), round(right / 2))
            places = [(0, 0), (0, right), (bottom, 0), (bottom, right), middle]
            views = [x[..., i : i + self.crop, j : j + self.crop] for i, j in places]
        return views + [view.flip(-1) for view in views] if self.flip else views

    def _features(self, x: "Tensor") -> "dict[str, Tensor]":
        if self.last and self.last_cls:
            tokens, last = self.last_cls(x, self.last)
            more = {f"cls_last{self.last}": last.float()}
        else:
            tokens, more = self.tokens(x), {}
        tokens = tokens.float()
        return {"cls": tokens[:, 0], "patch_mean": tokens[:, self.n_prefix :].mean(dim=1), **more}

    def _check(self, pixels: npt.NDArray[np.uint8]) -> None:
        shape = pixels.shape
        if pixels.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
            raise BackboneError(
                f"pixels must be uint8 of shape (B, H, W, 3), got {pixels.dtype} {shape}."
            )
        if self.crop and min(shape[1:3]) < self.crop:
            raise BackboneError(
                f"five crops of {self.crop} need larger images, got {shape[1]} x {shape[2]}."
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

    def precision(self) -> list[Any]:
        """Return the contexts that set the arithmetic."""
        import torch

        kind = self.device.split(":")[0]
        contexts: list[Any] = []
        if kind == "cuda":  # the patch embedding is a convolution: TF32 would cost three digits
            contexts.append(torch.backends.cudnn.flags(enabled=True, allow_tf32=False))
        if self.dtype == "bfloat16":
            contexts.append(torch.autocast(kind, dtype=torch.bfloat16))
        return contexts
