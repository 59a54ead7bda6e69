"""One CUDA device kept busy: uint8 travels on a stream of its own while the last batch computes.

The forward pass is compiled for one shape and replayed as a CUDA graph, so every batch has that
shape: the last one of a shard is padded with whatever the memory held, and the padding is cut off.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

    from selectkit.extract.backbones.tokens import TokenBackbone

Arrays: TypeAlias = dict[str, npt.NDArray[np.float32]]
Pool: TypeAlias = "Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]"


@contextmanager
def page_locked(pixels: npt.NDArray[np.uint8]) -> Iterator[None]:
    """Lock memory in place for the block; without it copies to the device do not overlap.

    Args:
        pixels: Any memory. Where the system refuses to lock it, it is used as it is.

    Yields:
        Nothing.
    """
    import torch

    streams: Any = torch.cuda  # not typed
    runtime = streams.cudart()
    refused = runtime.cudaHostRegister(pixels.ctypes.data, pixels.nbytes, 0) != 0
    try:
        yield
    finally:
        if not refused:
            torch.cuda.synchronize()
            runtime.cudaHostUnregister(pixels.ctypes.data)


class CudaQueue:
    """Batches of one shape on their way through a backbone.

    Attributes:
        shape: Of a full batch, (B, size, size, 3).
        compiled: Whether the forward pass is compiled; when that fails it runs as it is.
    """

    def __init__(self, backbone: "TokenBackbone", shape: tuple[int, int, int, int]) -> None:
        """Nothing is compiled before the first batch."""
        import torch

        streams: Any = torch.cuda  # not typed

        self.shape = shape
        self.compiled = True
        self._backbone = backbone
        self._pool: Pool = torch.compile(backbone.pool, mode="reduce-overhead", dynamic=False)
        self._normalisation = backbone.normalisation()
        self._copies = streams.Stream(backbone.device)

    def start(self, pixels: npt.NDArray[np.uint8]) -> Callable[[], Arrays]:
        """Send a batch, queue its forward pass and the way back.

        Args:
            pixels: Shape (n, size, size, 3) with n <= B; not to be changed until the result is
                there.

        Returns:
            Waits for the features of the n images. When memory runs out, the batch is computed in
            halves, and so are all that follow.
        """
        import torch

        backbone = self._backbone
        try:
            there, arrived, ready = self._queue(pixels)
        except torch.OutOfMemoryError:
            backbone.halve(len(pixels), pixels.shape[1:3])
            return lambda: backbone(pixels)

        def wait() -> Arrays:
            ready.synchronize()
            backbone.stood_still(arrived[0].elapsed_time(arrived[1]) / 1000)
            return {name: x.numpy()[: len(pixels)] for name, x in there.items()}

        return wait

    def _queue(
        self, pixels: npt.NDArray[np.uint8]
    ) -> "tuple[dict[str, Tensor], tuple[Any, Any], Any]":
        """The results, when they are ready, and the times between which nothing was computed."""
        import torch

        streams: Any = torch.cuda  # not typed
        device = self._backbone.device
        main = torch.cuda.current_stream(device)
        with torch.cuda.stream(self._copies):
            batch = torch.empty(self.shape, dtype=torch.uint8, device=device)
            batch[: len(pixels)].copy_(torch.from_numpy(pixels), non_blocking=True)
        idle, arrived = (streams.Event(enable_timing=True) for _ in range(2))
        idle.record(main)
        main.wait_stream(self._copies)
        arrived.record(main)
        batch.record_stream(main)
        found = self._forward(batch)
        there = {
            name: torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x, non_blocking=True)
            for name, x in found.items()
        }
        ready = streams.Event()
        ready.record(main)
        return there, (idle, arrived), ready

    def _forward(self, batch: "Tensor") -> "dict[str, Tensor]":
        import torch

        graphs: Any = torch.compiler  # not typed
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())  # graphs are not recorded in inference mode
            for context in self._backbone.precision():
                stack.enter_context(context)
            graphs.cudagraph_mark_step_begin()
            try:
                return self._pool(batch, *self._normalisation)
            except torch.OutOfMemoryError:
                raise
            except Exception:  # no compiler, no Triton, an operation it does not know
                if not self.compiled:
                    raise
                self.compiled, self._pool = False, self._backbone.pool
                return self._pool(batch, *self._normalisation)
