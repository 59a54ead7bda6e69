"""What a training needs of memory at the least, and refusing what no memory can hold."""

import os
from collections.abc import Sequence

from selectkit.errors import ConfigError
from selectkit.heads.training.recipe import Recipe

_ENTRY = 4  # bytes of a float32


def require_room(
    recipes: Sequence[Recipe], n_inputs: int, n_outputs: int, n_rows: int, device: str
) -> None:
    """Refuse hidden layers that cannot be trained on a machine, before anything is allocated.

    Counted is what is there at the same time in every step: weights, gradient, the optimiser's
    moments, the moving average, and the hidden layer's slopes for one part of a batch. Training
    takes more than that; what is not refused may still be too large.

    Args:
        recipes: M recipes of equal structure, trained together.
        n_inputs: D.
        n_outputs: O.
        n_rows: Training rows.
        device: Where they are trained.

    Raises:
        ConfigError: If the memory is smaller.
    """
    first, memory = recipes[0], memory_of(device)
    if first.hidden is None:
        return
    entries = len(recipes) * (first.hidden * (n_inputs + n_outputs + 1) + n_outputs)
    copies = 2 + (2 if first.optimizer == "adamw" else 1) + (first.averaging is not None)
    part = -(-min(first.batch_size, n_rows) // first.accumulation)
    needed = _ENTRY * (copies * entries + len(recipes) * first.hidden * part)
    if needed <= memory:
        return
    of = "" if len(recipes) == 1 else f" of {len(recipes)} heads that are trained together"
    raise ConfigError(
        f"hidden = {first.hidden}: the weights{of} take {_size(_ENTRY * entries)}, and training "
        f"them at least {_size(needed)} in all, but there are {_size(memory)} of memory. "
        "Use fewer hidden units."
    )


def memory_of(device: str) -> int:
    """Return the bytes of memory of the machine, or of a CUDA device."""
    if device != "cpu":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.1f} GB"
