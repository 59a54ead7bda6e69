"""Finding a checkpoint's folder: on disk, or through the Hugging Face hub and its cache."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from selectkit.errors import BackboneError

SHARD_INDEX = "model.safetensors.index.json"


def read_config(folder: Path) -> dict[str, Any]:
    """Read a checkpoint's `config.json` and see that safetensors weights lie beside it.

    Args:
        folder: A checkpoint in the layout of transformers or timm.

    Returns:
        The configuration.

    Raises:
        BackboneError: If there is no usable configuration or no safetensors file.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BackboneError(
            f"{folder} has no config.json: it is not a checkpoint of transformers or timm."
        ) from None
    except (OSError, ValueError) as error:
        raise BackboneError(f"{folder / 'config.json'} is not readable JSON: {error}.") from None
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(p.name for s in ("*.bin", "*.pt", "*.pth") for p in folder.glob(s))
        raise BackboneError(
            f"{folder} has no .safetensors weights"
            + (
                f", only {pickled[0]}, which is not read because unpickling runs code. Convert "
                "it: load it where you trust it and save with safetensors.torch.save_file."
                if pickled
                else ". Put model.safetensors beside config.json."
            )
        )
    return dict(config)


def download(repo: str) -> Path:
    """Return the local folder of a hub repository, downloading what is not cached.

    A complete copy in the cache is used without asking the hub. Only configuration and safetensors
    files are fetched. `HF_HOME` and `HF_HUB_OFFLINE` work as everywhere.

    Args:
        repo: "org/name".

    Returns:
        The snapshot's folder in the hub cache.

    Raises:
        BackboneError: If the repository is gated, unknown or unreachable; with what to do.
    """
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return _collect(repo, cached=True)
    except EntryNotFoundError:
        return _online(repo)


def _collect(repo: str, *, cached: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def fetch(name: str) -> Path:
        return Path(hf_hub_download(repo, name, local_files_only=cached))

    config = fetch("config.json")
    with suppress(EntryNotFoundError):
        fetch("preprocessor_config.json")
    try:
        fetch("model.safetensors")
    except EntryNotFoundError:
        index = json.loads(fetch(SHARD_INDEX).read_text(encoding="utf-8"))
        for name in sorted(set(index["weight_map"].values())):
            fetch(name)
    return config.parent


def _online(repo: str) -> Path:
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        with _quiet():
            return _collect(repo, cached=False)
    except GatedRepoError:
        raise BackboneError(
            f"{repo} is gated. Accept its licence on the model's page and log in with "
            "`hf auth login`, or use a mirror without gate such as dinov3-s, or pass the folder "
            "of a copy."
        ) from None
    except RepositoryNotFoundError:
        raise BackboneError(
            f"the hub knows no model {repo!r} (or it is private and you are not logged in). "
            "Check the name, or run `hf auth login`."
        ) from None
    except RemoteEntryNotFoundError:
        raise BackboneError(
            f"{repo} has no config.json with safetensors weights beside it on the hub. Choose "
            "another repository, or pass the folder of a converted checkpoint."
        ) from None
    except (LocalEntryNotFoundError, OSError) as error:
        raise _unreachable(repo, error) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Mute the hub's warnings about retries: one line at the end says it all."""
    from logging import ERROR

    from huggingface_hub.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _unreachable(repo: str, error: Exception) -> BackboneError:
    reason = str(error.__cause__ or error).strip().split("\n")[0].split(". ")[0].rstrip(".")
    return BackboneError(
        f"{repo} is not in the local cache, and the hub cannot be reached ({reason}). Connect; or "
        f"run `hf download {repo} --local-dir FOLDER` on a connected machine, copy the folder and "
        "pass its path. "
        "With HF_HUB_OFFLINE=1 only the cache is used."
    )
