"""DINOv3 through transformers (Simeoni et al. 2025, arXiv 2508.10104)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selectkit.errors import BackboneError
from selectkit.extract.backbones.tokens import TokenBackbone
from selectkit.extract.backbones.weights import weights_hash
from selectkit.extract.environment import public_version
from selectkit.extract.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

FAMILIES = ("dinov3_vit", "dinov3_convnext")


def load_hf(
    folder: Path,
    *,
    id: str,
    device: str,
    dtype: str,
    preprocessing: Preprocessing | None = None,
) -> TokenBackbone:
    """Load a transformers checkpoint, single-file or sharded safetensors.

    Args:
        folder: Holds config.json and the weights.
        id: The backbone's name.
        device: A torch device.
        dtype: "float32" or "bfloat16" (automatic mixed precision).
        preprocessing: Default geometry; without it Meta's evaluation transform at the
            checkpoint's image size. The mean and std of preprocessor_config.json win over both.

    Returns:
        The backbone.

    Raises:
        BackboneError: If the family is not DINOv3 or a weight is missing or misshapen.
    """
    import torch

    config, model = _pretrained(folder)
    size = int(getattr(config, "image_size", 224))
    default = preprocessing or Preprocessing(size)
    mean, std = _normalisation(folder)
    conv = config.model_type == "dinov3_convnext"
    model = model.eval().requires_grad_(requires_grad=False)
    identity = {
        "library": "transformers",
        "library_version": public_version("transformers"),
        "torch_version": public_version("torch"),
        "class": type(model).__name__,
        "weights": weights_hash(model),
    }
    model = model.to(device)

    def tokens(x: "Tensor") -> "Tensor":
        hidden: Tensor = model(pixel_values=x).last_hidden_state
        return hidden

    def last_cls(x: "Tensor", n: int) -> "tuple[Tensor, Tensor]":
        found = model(pixel_values=x, output_hidden_states=True)
        blocks = [model.norm(hidden[:, 0]) for hidden in found.hidden_states[1:][-n:]]  # 0: input
        return found.last_hidden_state, torch.cat(blocks, dim=1)

    return TokenBackbone(
        id=id,
        dim=int(config.hidden_sizes[-1] if conv else config.hidden_size),
        patch_size=32 if conv else int(config.patch_size),
        preprocessing=Preprocessing(default.size, default.mode, default.interpolation, mean, std),
        model=model,
        tokens=tokens,
        n_prefix=1 if conv else 1 + int(config.num_register_tokens),
        device=device,
        dtype=dtype,
        identity=identity,
        last_cls=None if conv else last_cls,
    )


def _pretrained(folder: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (ValueError, OSError, KeyError) as error:
        raise BackboneError(f"{folder}: {_first_line(error)}") from None
    if config.model_type not in FAMILIES:
        raise BackboneError(
            f"{folder} is a {config.model_type!r} model; supported through transformers are "
            f"{' and '.join(FAMILIES)}. Other vision transformers load through timm."
        )
    try:
        with _quiet():
            model, report = AutoModel.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # safetensors, JSON and shape errors have no common base
        raise BackboneError(f"{folder}: the weights cannot be read: {_first_line(error)}") from None
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would fill them with random numbers
        raise BackboneError(
            f"{folder}: {len(missing)} weights are missing, first {missing[0]}. The file belongs "
            "to another architecture or is incomplete; fetch it again."
        )
    return config, model


def _normalisation(folder: Path) -> tuple[Any, Any]:
    file = folder / "preprocessor_config.json"
    facts = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    mean, std = facts.get("image_mean", IMAGENET_MEAN), facts.get("image_std", IMAGENET_STD)
    return tuple(map(float, mean)), tuple(map(float, std))


@contextmanager
def _quiet() -> Iterator[None]:
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
