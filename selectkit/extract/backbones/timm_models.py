"""DINOv3 and other vision transformers through timm.

timm's own default for DINOv3 is `global_pool="avg"`, the mean of the patches. Here the tokens are
taken before any pooling and pooled in one place for both libraries. Asking timm for "token"
makes it refuse models without a class token and keeps the final norm before the tokens.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from selectkit.errors import BackboneError
from selectkit.extract.backbones.hub import SHARD_INDEX
from selectkit.extract.backbones.tokens import TokenBackbone
from selectkit.extract.backbones.weights import weights_hash
from selectkit.extract.environment import public_version, require_working_torchvision
from selectkit.extract.preprocess import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

TimmModel: TypeAlias = Any  # timm ships no types


def load_timm(
    folder: Path, config: dict[str, Any], *, id: str, device: str, dtype: str
) -> TokenBackbone:
    """Load a checkpoint in timm's hub layout.

    Args:
        folder: Holds config.json and model.safetensors.
        config: The parsed config.json.
        id: The backbone's name.
        device: A torch device.
        dtype: "float32" or "bfloat16" (automatic mixed precision).

    Returns:
        The backbone. DINOv3 models default to Meta's evaluation transform at 224 pixels, others to
        it at the size in their configuration.

    Raises:
        BackboneError: If the architecture is unknown to timm or has no class token, or the
            weights do not fit it.
    """
    require_working_torchvision(needed_by="timm")
    import torch

    if (folder / SHARD_INDEX).is_file():
        raise BackboneError(
            f"{folder} holds sharded weights, which timm does not read. Merge them into one "
            "model.safetensors."
        )
    model = _pretrained(folder, config)
    model = model.eval().requires_grad_(requires_grad=False)
    identity = {
        "library": "timm",
        "library_version": public_version("timm"),
        "torch_version": public_version("torch"),
        "class": f"{type(model).__name__}:{config['architecture']}",
        "weights": weights_hash(model),
    }

    def last_cls(x: "Tensor", n: int) -> "tuple[Tensor, Tensor]":
        tokens, blocks = model.forward_intermediates(
            x, indices=n, norm=True, return_prefix_tokens=True, output_fmt="NLC"
        )
        return tokens, torch.cat([prefix[:, 0] for _, prefix in blocks], dim=1)

    return TokenBackbone(
        id=id,
        dim=int(model.num_features),
        patch_size=int(model.patch_embed.patch_size[0]),
        preprocessing=_preprocessing(model.pretrained_cfg, config["architecture"]),
        model=model.to(device),
        tokens=model.forward_features,
        n_prefix=int(model.num_prefix_tokens),
        device=device,
        dtype=dtype,
        identity=identity,
        last_cls=last_cls,
        only_size=model.patch_embed.img_size[0] if model.patch_embed.strict_img_size else None,
    )


def _pretrained(folder: Path, config: dict[str, Any]) -> TimmModel:
    import timm

    if not timm.is_model(config["architecture"]):
        raise BackboneError(
            f"timm {timm.__version__} knows no architecture {config['architecture']!r}. Upgrade "
            "timm, or check config.json."
        )
    try:
        return timm.create_model(
            f"local-dir:{folder}", pretrained=True, num_classes=0, global_pool="token"
        )
    except Exception as error:  # timm and safetensors errors have no common base
        lines = (str(error).strip() or type(error).__name__).split("\n")
        reason = " ".join(line.strip() for line in lines[:2])
        raise BackboneError(
            f"{folder}: timm cannot load this as a vision transformer with class token: "
            f"{reason[:200]}"
        ) from None


def _preprocessing(facts: dict[str, Any], architecture: str) -> Preprocessing:
    size = 224 if "dinov3" in architecture else int(facts["input_size"][-1])
    return Preprocessing(size, mean=tuple(facts["mean"]), std=tuple(facts["std"]))
