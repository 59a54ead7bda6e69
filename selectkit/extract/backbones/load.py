"""From a name to a backbone: alias, hub id or folder; layout decides the library."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

from selectkit.errors import BackboneError, ConfigError
from selectkit.extract.backbones.aliases import ALIASES
from selectkit.extract.backbones.hub import download, read_config
from selectkit.extract.backbones.precision import bfloat16_is_fast, reference, to_bfloat16
from selectkit.extract.backbones.tokens import TokenBackbone
from selectkit.extract.preprocess import Preprocessing
from selectkit.threads import usable_cores

TINY = Path(__file__).parent.parent / "tiny"
TINY_PREPROCESSING = Preprocessing(32, "squash")


def load_backbone(
    spec: str | Path,
    *,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "float32",
    last: int = 0,
    flip: bool = False,
    compile: bool = False,
) -> TokenBackbone:
    """Load a frozen backbone, in eval mode.

    If torch has more threads than this process may use cores (a container's quota does not show in
    their number), it gets as many as there are cores.

    Args:
        spec: An alias ("tiny", "dinov3-s", ... see `ALIASES`), "timm:<id>", "hf:<org>/<name>",
            "<org>/<name>", or a folder with a checkpoint in the layout of transformers or timm.
        device: "auto" (CUDA if there is one, else CPU), "cpu", "cuda" or "cuda:<i>".
        dtype: "float32"; "bfloat16" for automatic mixed precision; or "auto": "bfloat16" where the
            hardware multiplies it natively and reference images keep their features within
            `DRIFT` (see `selectkit.extract.backbones.precision`), else "float32".
        last: n > 0 adds the feature "cls_last<n>": the class tokens of the last n blocks.
        flip: Features are the mean over each image and its mirror image, at twice the price.
        compile: Compile the forward pass on the CPU when it is first used, which needs a C++
            compiler and half a minute or more; on CUDA it is compiled where that is possible.

    Returns:
        The backbone. Its `id` is the full name, its fingerprint holds the hash of the weights and
        the dtype that was chosen.

    Raises:
        BackboneError: If it cannot be found, fetched, read or placed on the device.
        ConfigError: If dtype is unknown, or the model does not offer `last`.
    """
    if dtype not in {"auto", "float32", "bfloat16"}:
        raise ConfigError(f"dtype must be 'auto', 'float32' or 'bfloat16', got {dtype!r}.")
    backbone = replace(_load(spec, device), flip=flip)
    if last:
        backbone = _with_last(backbone, last)
    if dtype == "bfloat16" or (dtype == "auto" and bfloat16_is_fast(backbone.device)):
        return to_bfloat16(backbone, only_if_near=dtype == "auto", compiled=compile)
    return replace(backbone, compiled=compile)


def _with_last(backbone: TokenBackbone, last: int) -> TokenBackbone:
    if last < 1 or backbone.last_cls is None:
        raise ConfigError(
            f"last must be a number of blocks of a vision transformer, got {last} for "
            f"{backbone.id}."
        )
    backbone = replace(backbone, last=last)
    try:
        lengths = {name: x.shape[1] for name, x in backbone(reference(backbone)[:1]).items()}
    except (AssertionError, ValueError, IndexError):  # timm counts the blocks
        lengths = {}
    if lengths != backbone.features:
        raise ConfigError(f"{backbone.id} has fewer than {last} blocks. Ask for fewer.")
    return backbone


def _load(spec: str | Path, device: str) -> TokenBackbone:
    name = str(spec)
    if not Path(name).expanduser().is_dir() and name in ALIASES:
        name = ALIASES[name].spec
    folder, identity = _locate(name)
    config = read_config(folder)
    place = _device(device)
    if "architecture" in config:
        from selectkit.extract.backbones.timm_models import load_timm

        return load_timm(folder, config, id=identity, device=place, dtype="float32")
    if "model_type" in config:
        from selectkit.extract.backbones.hf_models import load_hf

        default = TINY_PREPROCESSING if identity == "tiny" else None
        return load_hf(folder, id=identity, device=place, dtype="float32", preprocessing=default)
    raise BackboneError(
        f"{folder / 'config.json'} names neither a timm architecture nor a transformers "
        "model_type. Pass a checkpoint saved by one of the two."
    )


def _locate(name: str) -> tuple[Path, str]:
    folder = Path(name).expanduser()
    if name == "tiny" and not folder.is_dir():
        return TINY, "tiny"
    if folder.is_dir():
        return folder.resolve(), str(folder.resolve())
    if name.startswith(("/", "./", "../", "~")):
        raise BackboneError(f"there is no folder {name}. Pass the folder that holds config.json.")
    if name.startswith("timm:"):
        repo = "timm/" + name.removeprefix("timm:").removeprefix("timm/")
    else:
        repo = name.removeprefix("hf:")
    if repo.count("/") != 1:
        raise BackboneError(
            f"unknown backbone {name!r}. Known short names: {', '.join(ALIASES)}; or pass "
            "timm:<id>, hf:<org>/<name> or a folder."
        )
    if not re.fullmatch(r"[\w.-]+/[\w.+-]+", repo):
        raise BackboneError(f"{repo!r} is no hub model id; expected org/name.")
    org, model = repo.split("/")
    return download(repo), f"timm:{model}" if org == "timm" else f"hf:{repo}"


def _device(device: str) -> str:
    from selectkit.extract.environment import require_working_torchvision

    require_working_torchvision()
    import torch

    if torch.get_num_threads() > usable_cores():
        torch.set_num_threads(usable_cores())
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.split(":")[0] not in {"cpu", "cuda"}:
        raise BackboneError(f"unknown device {device!r}; use auto, cpu, cuda or cuda:<i>.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BackboneError(
            f"device {device!r} was asked for, but torch {torch.__version__} sees no CUDA device. "
            "Use --device cpu, or see `selectkit doctor`."
        )
    return device
