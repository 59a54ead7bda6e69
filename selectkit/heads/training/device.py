"""Where a training runs."""


def resolved(device: str) -> str:
    """Return the device that a setting means.

    Args:
        device: "auto", or anything else, which is returned as it is.

    Returns:
        For "auto": "cuda" when there is a CUDA device, else "cpu".
    """
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
