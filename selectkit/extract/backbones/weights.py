"""The identity of a model's weights, wherever their files lie."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


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
