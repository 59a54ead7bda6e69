import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from selectkit.cache import FeatureStore
from selectkit.errors import BackboneError, CacheError, ConfigError
from selectkit.extract import ALIASES, Preprocessing, extract, load_backbone, open_source
from selectkit.extract.backbones import TokenBackbone, weights_hash
from selectkit.extract.decode import decode_pixels
from tests.unit.extract.extract_tools import image_folder, noise

KINDS = ("plain", "swiglu")
DIM, DEPTH = 128, 2


def hf_model(kind: str) -> Any:
    """A small random DINOv3 of transformers, no parameter left at its neutral value."""
    import torch
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(7)
    config = DINOv3ViTConfig(
        patch_size=16,
        image_size=64,
        hidden_size=DIM,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        intermediate_size=256,
        num_register_tokens=4,
        query_bias=False,
        value_bias=False,
        use_gated_mlp=kind == "swiglu",
        hidden_act="silu" if kind == "swiglu" else "gelu",
    )
    model = DINOv3ViTModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "embeddings.mask_token":
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def timm_model(kind: str, source: Any) -> Any:
    """The timm model with the weights of a transformers model."""
    import timm

    name = {"plain": "vit_small", "swiglu": "vit_small_plus"}[kind]
    shape = {"embed_dim": DIM, "depth": DEPTH, "num_heads": 2, "mlp_ratio": 2}
    extra = {"swiglu_align_to": 1} if kind == "swiglu" else {}
    model = timm.create_model(f"{name}_patch16_dinov3", num_classes=0, **shape, **extra)
    model.load_state_dict(as_timm(source.state_dict()), strict=True)
    return model.eval()


def as_timm(state: dict[str, Any]) -> dict[str, Any]:
    import torch

    names = {
        "attention.o_proj": "attn.proj",
        "layer_scale1.lambda1": "gamma_1",
        "layer_scale2.lambda1": "gamma_2",
        "norm1": "norm1",
        "norm2": "norm2",
    }
    gated = any(".gate_proj." in key for key in state)
    names |= (
        {"mlp.gate_proj": "mlp.fc1_g", "mlp.up_proj": "mlp.fc1_x", "mlp.down_proj": "mlp.fc2"}
        if gated
        else {"mlp.up_proj": "mlp.fc1", "mlp.down_proj": "mlp.fc2"}
    )
    out = {
        "cls_token": state["embeddings.cls_token"],
        "reg_token": state["embeddings.register_tokens"],
        "patch_embed.proj.weight": state["embeddings.patch_embeddings.weight"],
        "patch_embed.proj.bias": state["embeddings.patch_embeddings.bias"],
        "norm.weight": state["norm.weight"],
        "norm.bias": state["norm.bias"],
    }
    for i in range(DEPTH):
        stem = f"model.layer.{i}."
        qkv = [state[f"{stem}attention.{x}_proj.weight"] for x in "qkv"]
        out[f"blocks.{i}.attn.qkv.weight"] = torch.cat(qkv)
        for key in (k for k in state if k.startswith(stem)):
            rest = key.removeprefix(stem)
            for theirs, ours in names.items():
                if rest.startswith(theirs):
                    out[f"blocks.{i}.{ours}{rest.removeprefix(theirs)}"] = state[key]
    return out


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders hf-plain, hf-swiglu, timm-plain, timm-swiglu; same weights for both libraries."""
    from timm.models import save_for_hf

    root = tmp_path_factory.mktemp("checkpoints")
    for kind in KINDS:
        model = hf_model(kind)
        model.save_pretrained(root / f"hf-{kind}")
        save_for_hf(timm_model(kind, model), str(root / f"timm-{kind}"), safe_serialization=True)
    return root


def batch(height: int = 64, width: int = 64) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.stack([noise(height, width, seed) for seed in range(3)])


def copied(checkpoints: Path, name: str, place: Path) -> Path:
    shutil.copytree(checkpoints / name, place / name)
    return place / name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(64, 64), (48, 80)])
def test_timm_and_transformers_agree(checkpoints: Path, kind: str, shape: tuple[int, int]) -> None:
    one = load_backbone(checkpoints / f"hf-{kind}", device="cpu")
    two = load_backbone(checkpoints / f"timm-{kind}", device="cpu")
    assert (one.dim, one.patch_size, one.n_prefix) == (two.dim, two.patch_size, two.n_prefix)
    a, b = one(batch(*shape)), two(batch(*shape))
    for name in ("cls", "patch_mean"):
        assert a[name].shape == (3, DIM)
        assert a[name].dtype == np.float32
        assert np.abs(a[name] - b[name]).max() < 2e-6
        assert np.abs(a[name][0] - a[name][1]).max() > 1e-2  # images make a difference


def test_the_two_libraries_do_not_share_a_view(checkpoints: Path, tmp_path: Path) -> None:
    source, store = open_source(image_folder(tmp_path / "images", {"a": 2})), tmp_path / "s.zarr"
    one, two = (load_backbone(checkpoints / f"{x}-plain", device="cpu") for x in ("hf", "timm"))
    plan = one.preprocessing
    extract(source, store, backbone=one, preprocessing=plan)
    with pytest.raises(CacheError, match="library"):
        extract(source, store, backbone=two, preprocessing=plan)
    extract(source, store, backbone=two, preprocessing=plan, view="timm", dtype="float32")
    opened = FeatureStore.open(store)
    a, b = (np.asarray(opened.array(view, "cls")[:]) for view in ("base", "timm"))
    assert np.abs(a - b).max() < 1e-3 * np.abs(b).max()  # the first is stored as float16


def twin(backbone: TokenBackbone, pool: Callable[[Any], Any]) -> Any:
    """The features of a backbone whose pooling is written here."""
    import torch

    with torch.inference_mode():
        x = torch.tensor(batch()).permute(0, 3, 1, 2).float() / 255
        mean = torch.tensor(backbone.preprocessing.mean).view(1, 3, 1, 1)
        std = torch.tensor(backbone.preprocessing.std).view(1, 3, 1, 1)
        return pool((x - mean) / std).numpy()


@pytest.mark.parametrize("library", ["hf", "timm"])
def test_patch_mean_leaves_registers_out(checkpoints: Path, library: str) -> None:
    backbone = load_backbone(checkpoints / f"{library}-plain", device="cpu")
    features = backbone(batch())
    right = twin(backbone, lambda x: backbone.tokens(x)[:, 5:].mean(1))
    with_registers = twin(backbone, lambda x: backbone.tokens(x)[:, 1:].mean(1))
    assert np.abs(features["patch_mean"] - right).max() < 1e-6
    assert np.abs(features["patch_mean"] - with_registers).max() > 1e-2


def test_cls_is_not_timms_default_pooling(checkpoints: Path) -> None:
    import timm

    backbone = load_backbone(checkpoints / "timm-plain", device="cpu")
    default = timm.create_model(
        f"local-dir:{checkpoints / 'timm-plain'}", pretrained=True, num_classes=0
    ).eval()
    features, broken = backbone(batch()), twin(backbone, default)
    assert np.abs(broken - features["patch_mean"]).max() < 1e-5  # timm means the patches
    assert np.abs(broken - features["cls"]).max() > 1e-2


def test_transformers_pooler_output_is_cls(checkpoints: Path) -> None:
    backbone = load_backbone(checkpoints / "hf-swiglu", device="cpu")
    pooled = twin(backbone, lambda x: backbone.model(pixel_values=x).pooler_output)
    assert np.abs(backbone(batch())["cls"] - pooled).max() < 1e-6


def test_train_mode_is_refused(checkpoints: Path) -> None:
    backbone = load_backbone(checkpoints / "hf-plain", device="cpu")
    assert not backbone.model.training
    assert not any(p.requires_grad for p in backbone.model.parameters())
    first = backbone(batch())["cls"]
    assert np.array_equal(first, backbone(batch())["cls"])
    backbone.model.train()
    with pytest.raises(BackboneError, match=r"is in train mode. Call its model.eval\(\) first."):
        backbone(batch())


def test_bfloat16_is_near_float32(checkpoints: Path) -> None:
    exact = load_backbone(checkpoints / "hf-plain", device="cpu")
    mixed = load_backbone(checkpoints / "hf-plain", device="cpu", dtype="bfloat16")
    a, b = exact(batch())["cls"], mixed(batch())["cls"]
    assert b.dtype == np.float32
    assert 0 < np.abs(a - b).max() < 0.05 * np.abs(a).max()
    assert mixed.fingerprint() == {**exact.fingerprint(), "dtype": "bfloat16"}


@pytest.mark.parametrize("library", ["hf", "timm"])
def test_same_weights_have_the_same_hash_elsewhere(
    checkpoints: Path, tmp_path: Path, library: str
) -> None:
    here = load_backbone(checkpoints / f"{library}-plain", device="cpu").fingerprint()
    there = load_backbone(copied(checkpoints, f"{library}-plain", tmp_path), device="cpu")
    assert {**there.fingerprint(), "id": here["id"]} == here
    assert here["library"] == {"hf": "transformers", "timm": "timm"}[library]
    assert json.loads(json.dumps(here)) == here


def test_weights_hash_sees_names_dtypes_shapes_and_bytes() -> None:
    import torch

    def hashed(**tensors: torch.Tensor) -> str:
        module = torch.nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor)
        return weights_hash(module)

    a = torch.zeros(4)
    variants = [
        hashed(a=a),
        hashed(b=a),
        hashed(a=a.double()),
        hashed(a=a.reshape(2, 2)),
        hashed(a=a + 1),
        hashed(a=torch.tensor(0.0)),
        hashed(a=a.bfloat16()),
    ]
    assert len(set(variants)) == len(variants)
    assert hashed(a=a, b=a + 1) == hashed(b=a + 1, a=a)


def test_sharded_weights_load(checkpoints: Path, tmp_path: Path) -> None:
    hf_model("plain").save_pretrained(tmp_path / "parts", max_shard_size="300KB")
    assert len(list((tmp_path / "parts").glob("model-*.safetensors"))) > 1
    parts = load_backbone(tmp_path / "parts", device="cpu")
    whole = load_backbone(checkpoints / "hf-plain", device="cpu")
    assert parts.fingerprint()["weights"] == whole.fingerprint()["weights"]


def test_convnext_has_no_registers(tmp_path: Path) -> None:
    import torch
    from transformers import DINOv3ConvNextConfig, DINOv3ConvNextModel

    torch.manual_seed(0)
    config = DINOv3ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])
    DINOv3ConvNextModel(config).save_pretrained(tmp_path)
    backbone = load_backbone(tmp_path, device="cpu")
    assert (backbone.dim, backbone.patch_size, backbone.n_prefix) == (32, 32, 1)
    features = backbone(batch())
    tokens = twin(backbone, backbone.tokens)
    assert np.abs(features["patch_mean"] - tokens[:, 1:].mean(axis=1)).max() < 1e-6
    assert np.abs(features["cls"] - tokens[:, 0]).max() < 1e-6


def test_default_preprocessing_and_normalisation(checkpoints: Path, tmp_path: Path) -> None:
    assert load_backbone(checkpoints / "timm-plain", device="cpu").preprocessing.size == 224
    folder = copied(checkpoints, "hf-plain", tmp_path)
    assert load_backbone(folder, device="cpu").preprocessing == Preprocessing(64)
    facts = {"image_mean": [0.43, 0.411, 0.296], "image_std": [0.213, 0.156, 0.143]}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    satellite = load_backbone(folder, device="cpu")
    assert satellite.preprocessing.mean == (0.43, 0.411, 0.296)
    plain = load_backbone(checkpoints / "hf-plain", device="cpu")
    assert np.abs(satellite(batch())["cls"] - plain(batch())["cls"]).max() > 1e-2


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (batch(60, 64), "needs sides that are multiples of 16, got 60 x 64."),
        (batch().astype(np.float32), "pixels must be uint8 of shape (B, H, W, 3), got float32"),
        (batch()[0], "pixels must be uint8 of shape (B, H, W, 3), got uint8 (64, 64, 3)."),
    ],
)
def test_wrong_pixels_are_refused(checkpoints: Path, pixels: Any, message: str) -> None:
    with pytest.raises(BackboneError, match=re.escape(message)):
        load_backbone(checkpoints / "hf-plain", device="cpu")(pixels)


def test_model_of_one_size_says_so(tmp_path: Path) -> None:
    import timm
    from timm.models import save_for_hf

    model = timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=32, num_heads=2)
    save_for_hf(model, str(tmp_path / "vit"), safe_serialization=True)
    backbone = load_backbone(tmp_path / "vit", device="cpu")
    size = backbone.preprocessing.size
    assert backbone(batch(size, size))["cls"].shape == (3, backbone.dim)
    with pytest.raises(BackboneError, match=rf"takes only images of {size} x {size}, got 64 x 64."):
        backbone(batch())


def test_too_little_memory_is_said_in_words(checkpoints: Path) -> None:
    import torch

    def full(x: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    backbone = replace(load_backbone(checkpoints / "hf-plain", device="cpu"), tokens=full)
    message = "cpu has too little memory for one image of 64 x 64. Take a smaller size"
    with pytest.raises(BackboneError, match=message):
        backbone(batch())


def test_too_little_memory_halves_the_batch_and_goes_on(checkpoints: Path) -> None:
    import torch

    whole = load_backbone(checkpoints / "hf-plain", device="cpu")
    sizes: list[int] = []

    def small(x: Any) -> Any:
        sizes.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole.tokens(x)

    backbone = replace(whole, tokens=small)
    pixels = np.concatenate([batch(), batch(), batch()])
    assert len(pixels) == 9
    expected = whole(pixels)
    for name, values in backbone(pixels).items():
        assert np.allclose(values, expected[name], atol=1e-5)
    assert sizes == [9, 4, 2, 2, 2, 2, 1]
    backbone.start(pixels[:4])()
    assert sizes[7:] == [2, 2]


@pytest.mark.parametrize("library", ["hf", "timm"])
def test_class_tokens_of_the_last_blocks(checkpoints: Path, library: str) -> None:
    folder = checkpoints / f"{library}-plain"
    plain, more = load_backbone(folder, device="cpu"), load_backbone(folder, device="cpu", last=2)
    assert plain.features == {"cls": DIM, "patch_mean": DIM}
    assert more.features == {"cls": DIM, "patch_mean": DIM, "cls_last2": 2 * DIM}
    assert more.fingerprint() == plain.fingerprint()
    expected, found = plain(batch()), more(batch())
    for name in expected:
        assert np.array_equal(found[name], expected[name])
    assert np.abs(found["cls_last2"][:, DIM:] - found["cls"]).max() < 1e-6
    assert np.abs(found["cls_last2"][:, :DIM] - found["cls"]).max() > 0.1
    with pytest.raises(ConfigError, match=r"has fewer than 3 blocks. Ask for fewer."):
        load_backbone(folder, device="cpu", last=3)


def test_last_blocks_agree_between_libraries(checkpoints: Path) -> None:
    one, two = (
        load_backbone(checkpoints / f"{library}-plain", device="cpu", last=2)(batch())["cls_last2"]
        for library in ("hf", "timm")
    )
    assert np.abs(one - two).max() < 1e-5


def test_last_blocks_are_refused_where_there_are_none(checkpoints: Path) -> None:
    with pytest.raises(ConfigError, match="last must be a number of blocks"):
        load_backbone("tiny", device="cpu", last=-1)


def test_flip_averages_image_and_mirror() -> None:
    plain, flipped = (load_backbone("tiny", device="cpu", flip=f) for f in (False, True))
    pixels = np.stack([noise(32, 32, seed) for seed in range(3)])
    one, two, both = plain(pixels), plain(pixels[:, :, ::-1]), flipped(pixels)
    for name in one:
        assert np.allclose(both[name], (one[name] + two[name]) / 2, atol=1e-6)
        assert not np.allclose(one[name], two[name], atol=1e-3)
    assert flipped.fingerprint() == {
        **plain.fingerprint(),
        "augmentation": "mean of the image and its mirror image",
    }


@pytest.mark.parametrize("flip", [False, True])
def test_five_crops_are_averaged(flip: bool) -> None:
    plain = load_backbone("tiny", device="cpu")
    plan = replace(plain.preprocessing, mode="meta-eval", size=32, resize=40)
    crops = load_backbone("tiny", device="cpu", flip=flip).five_crops(plan)
    assert crops.preprocessing == replace(plan, size=40)
    pixels = batch(40, 40)
    corners = [pixels[:, i : i + 32, j : j + 32] for i in (0, 8) for j in (0, 8)]
    views = [*corners, pixels[:, 4:36, 4:36]]
    views += [view[:, :, ::-1] for view in views] if flip else []
    expected = [plain(np.ascontiguousarray(view)) for view in views]
    for name, values in crops(pixels).items():
        mean = np.mean([found[name] for found in expected], axis=0)
        assert np.abs(values - mean).max() < 1e-6
        assert np.abs(values - expected[0][name]).max() > 1e-3
    said = "mean of five crops of 32 pixels, corners and centre"
    assert crops.fingerprint() == {
        **plain.fingerprint(),
        "augmentation": said + (", and their mirror images" if flip else ""),
    }


def test_five_crops_need_a_margin_and_a_size_the_model_takes(checkpoints: Path) -> None:
    tiny = load_backbone("tiny", device="cpu")
    with pytest.raises(ConfigError, match="five crops need a margin around the centre crop"):
        tiny.five_crops()
    with pytest.raises(ConfigError, match="five crops need a margin around the centre crop"):
        tiny.five_crops(Preprocessing(32, resize=32))
    with pytest.raises(ConfigError, match=r"takes no crops of 40 x 40. Use a size of 32."):
        load_backbone(checkpoints / "hf-plain", device="cpu").five_crops(Preprocessing(40))
    with pytest.raises(BackboneError, match=r"five crops of 32 need larger images, got 16 x 48"):
        tiny.five_crops(Preprocessing(32))(batch(16, 48))


def test_bfloat16_says_how_far_it_moves_features() -> None:
    from selectkit.extract.backbones.precision import DRIFT

    moved = load_backbone("tiny", device="cpu", dtype="bfloat16").drift
    assert moved is not None
    assert 0 < moved < DRIFT
    assert load_backbone("tiny", device="cpu").drift is None


def test_auto_takes_bfloat16_only_where_it_is_fast_and_near(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from selectkit.extract.backbones import load, precision

    monkeypatch.setattr(load, "bfloat16_is_fast", lambda device: False)
    assert load_backbone("tiny", device="cpu", dtype="auto").dtype == "float32"
    monkeypatch.setattr(load, "bfloat16_is_fast", lambda device: True)
    near = load_backbone("tiny", device="cpu", dtype="auto")
    assert near.fingerprint()["dtype"] == near.dtype == "bfloat16"
    monkeypatch.setattr(precision, "DRIFT", 1e-9)
    far = load_backbone("tiny", device="cpu", dtype="auto")
    assert far.dtype == "float32"
    assert all(p.dtype.itemsize == 4 for p in far.model.parameters())
    assert load_backbone("tiny", device="cpu", dtype="bfloat16").dtype == "bfloat16"


def test_weights_kept_in_bfloat16_change_no_bit() -> None:
    from selectkit.extract.backbones.precision import to_bfloat16

    plain = load_backbone("tiny", device="cpu")
    pixels = np.stack([noise(32, 32, seed) for seed in range(3)])
    mixed = replace(plain, dtype="bfloat16")(pixels)
    kept = to_bfloat16(plain, only_if_near=False)
    for name, values in kept(pixels).items():
        assert np.array_equal(values, mixed[name])
    assert kept.fingerprint() == {**plain.fingerprint(), "dtype": "bfloat16"}


def test_reference_images_are_fixed() -> None:
    from selectkit.extract.backbones.precision import drift, reference

    plain = load_backbone("tiny", device="cpu")
    images = reference(plain)
    assert images.shape == (4, 32, 32, 3)
    assert images[0, :2, :2].tolist() == [[[0, 0, 0], [3, 1, 1]], [[7, 3, 2], [10, 5, 3]]]
    assert drift(plain, plain) == 0
    assert 1e-4 < drift(plain, replace(plain, dtype="bfloat16")) < 0.05


HUB_CHILD = """
import json, sys
import numpy as np
from selectkit.errors import BackboneError
from selectkit.extract import load_backbone
out = {}
for spec in sys.argv[1:]:
    try:
        backbone = load_backbone(spec, device="cpu")
        features = backbone(np.zeros((1, 64, 64, 3), dtype=np.uint8))
        out[spec] = [backbone.fingerprint()["id"], backbone.fingerprint()["weights"]]
    except BackboneError as error:
        out[spec] = str(error)
print(json.dumps(out))
"""


def test_hub_cache_serves_offline(checkpoints: Path, tmp_path: Path) -> None:
    for repo, name in (("models--acme--dino", "hf-plain"), ("models--timm--dino.x", "timm-plain")):
        home = tmp_path / "hub" / repo
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text("0" * 40)
        shutil.copytree(checkpoints / name, home / "snapshots" / ("0" * 40))
    empty = tmp_path / "hub" / "models--acme--empty"
    (empty / "refs").mkdir(parents=True)
    (empty / "refs" / "main").write_text("1" * 40)
    (empty / "snapshots" / ("1" * 40)).mkdir(parents=True)
    (empty / "snapshots" / ("1" * 40) / "config.json").write_text("{}")
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    specs = ["hf:acme/dino", "acme/dino", "timm:dino.x", "acme/empty", "dinov3-s"]
    command = [sys.executable, "-c", HUB_CHILD, *specs]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    got = json.loads(done.stdout.splitlines()[-1])
    hashes = {
        name: load_backbone(checkpoints / name, device="cpu").fingerprint()["weights"]
        for name in ("hf-plain", "timm-plain")
    }
    assert got["hf:acme/dino"] == got["acme/dino"] == ["hf:acme/dino", hashes["hf-plain"]]
    assert got["timm:dino.x"] == ["timm:dino.x", hashes["timm-plain"]]
    for spec, repo in (
        ("acme/empty", "acme/empty"),
        ("dinov3-s", "timm/vit_small_patch16_dinov3.lvd1689m"),
    ):
        assert got[spec].startswith(f"{repo} is not in the local cache, and the hub cannot be rea")
        assert f"run `hf download {repo} --local-dir FOLDER` on a connected machine" in got[spec]
        assert "\n" not in got[spec]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GatedRepoError", "acme/dino is gated. Accept its licence on the model's page and log in"),
        ("RepositoryNotFoundError", "the hub knows no model 'acme/dino' (or it is private and"),
        ("RemoteEntryNotFoundError", "acme/dino has no config.json with safetensors weights"),
        ("LocalEntryNotFoundError", "the hub cannot be reached (no network)"),
    ],
)
def test_hub_refusals_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    def fetch(repo: str, file: str, *, local_files_only: bool) -> str:
        kind = "LocalEntryNotFoundError" if local_files_only else name
        error = getattr(errors, kind)
        made = error.__new__(error)
        made.args = ("no network. Try again",)
        raise made

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    with pytest.raises(BackboneError, match=re.escape(message)):
        load_backbone("acme/dino", device="cpu")


def test_names_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"unknown backbone 'dinov3'. Known short names: tiny"):
        load_backbone("dinov3")
    with pytest.raises(BackboneError, match=r"there is no folder ./gone. Pass the folder that ho"):
        load_backbone("./gone")
    with pytest.raises(BackboneError, match=r"'a b/c' is no hub model id; expected org/name"):
        load_backbone("hf:a b/c")
    with pytest.raises(BackboneError, match=r"has no config.json: it is not a checkpoint of trans"):
        load_backbone(tmp_path)
    with pytest.raises(
        ConfigError, match="dtype must be 'auto', 'float32' or 'bfloat16', got 'float16'"
    ):
        load_backbone("tiny", dtype="float16")  # type: ignore[arg-type]  # what a user may type
    with pytest.raises(BackboneError, match="unknown device 'tpu'; use auto, cpu, cuda or cuda:<"):
        load_backbone("tiny", device="tpu")


def test_torch_gets_no_more_threads_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from selectkit.extract.backbones import load

    asked: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    for cores in (8, 6, 3):
        monkeypatch.setattr(load, "usable_cores", lambda cores=cores: cores)
        load_backbone("tiny", device="cpu")
    assert asked == [3]


def test_cuda_without_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackboneError, match=r"device 'cuda:1' was asked for, but torch .* sees no"):
        load_backbone("tiny", device="cuda:1")
    assert load_backbone("tiny").device == "cpu"


def test_damaged_checkpoints_are_refused(checkpoints: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = copied(checkpoints, "hf-plain", tmp_path)
    weights = load_file(folder / "model.safetensors")
    lacking = {k: v for k, v in weights.items() if not k.endswith("norm2.weight")}
    save_file(lacking, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"2 weights are missing, first \S*norm2.weight"):
        load_backbone(folder, device="cpu")
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0garbage")
    with pytest.raises(BackboneError, match="hf-plain: the weights cannot be read"):
        load_backbone(folder, device="cpu")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BackboneError, match=r"only pytorch_model.bin, which is not read because"):
        load_backbone(folder, device="cpu")
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(BackboneError, match=r"has no .safetensors weights. Put model.safetensors"):
        load_backbone(folder, device="cpu")
    (folder / "config.json").write_text("{")
    with pytest.raises(BackboneError, match=r"config.json is not readable JSON"):
        load_backbone(folder, device="cpu")


def test_timm_checkpoints_that_do_not_fit_are_refused(checkpoints: Path, tmp_path: Path) -> None:
    folder = copied(checkpoints, "timm-plain", tmp_path)
    config = json.loads((folder / "config.json").read_text())

    def broken(**changes: Any) -> Path:
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        return folder

    with pytest.raises(BackboneError, match=r"timm \S+ knows no architecture 'vit_nothing'"):
        load_backbone(broken(architecture="vit_nothing"), device="cpu")
    narrow = {**config["model_args"], "embed_dim": 64}
    with pytest.raises(BackboneError, match=r"with class token: Error.* size mismatch"):
        load_backbone(broken(model_args=narrow), device="cpu")
    sharded = folder / "model.safetensors.index.json"
    sharded.write_text("{}")
    with pytest.raises(BackboneError, match="sharded weights, which timm does not read"):
        load_backbone(folder, device="cpu")


def test_models_without_class_token_are_refused(tmp_path: Path) -> None:
    import timm
    from timm.models import save_for_hf
    from transformers import ViTConfig, ViTModel

    for name in ("test_resnet", "test_vit2"):
        save_for_hf(timm.create_model(name), str(tmp_path / name), safe_serialization=True)
    with pytest.raises(
        BackboneError, match="timm cannot load this as a vision transformer with class"
    ):
        load_backbone(tmp_path / "test_resnet", device="cpu")
    with pytest.raises(
        BackboneError, match="timm cannot load this as a vision transformer with class"
    ):
        load_backbone(tmp_path / "test_vit2", device="cpu")
    small = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1)
    ViTModel(small).save_pretrained(tmp_path / "vit")
    with pytest.raises(BackboneError, match=r"is a 'vit' model; supported through transformers ar"):
        load_backbone(tmp_path / "vit", device="cpu")
    (tmp_path / "vit" / "config.json").write_text("{}")
    with pytest.raises(BackboneError, match="names neither a timm architecture nor a transformers"):
        load_backbone(tmp_path / "vit", device="cpu")


def test_aliases_name_models_of_timm() -> None:
    import timm

    for name, alias in ALIASES.items():
        if name == "tiny":
            continue
        model = alias.spec.removeprefix("timm:")
        assert timm.get_pretrained_cfg(model) is not None
        assert timm.is_model(model)


TINY_WEIGHTS = "sha256:a2751e8422ff31bf549c12ee934e7871dbc730a4358545bb9846a568ca04af24"


def test_tiny_is_what_its_readme_says() -> None:
    backbone = load_backbone("tiny", device="cpu")
    assert backbone.fingerprint()["weights"] == TINY_WEIGHTS
    assert (backbone.id, backbone.dim, backbone.n_prefix) == ("tiny", 128, 5)
    assert backbone.preprocessing == Preprocessing(32, "squash")
    size = sum(p.numel() for p in backbone.model.parameters()) / 1e6
    assert round(size, 2) == ALIASES["tiny"].parameters


def test_tiny_features_separate_digits() -> None:
    backbone, source = load_backbone("tiny", device="cpu"), open_source("digits")
    records = source.records()[::2]
    images = [decode_pixels(source.read(r.path)) for r in records]
    x = backbone(np.stack([backbone.preprocessing.apply(image) for image in images]))["cls"]
    y = np.array([r.label for r in records])
    x = StandardScaler().fit_transform(x)
    accuracy = LogisticRegression(max_iter=300).fit(x[::2], y[::2]).score(x[1::2], y[1::2])
    assert 0.75 < accuracy < 0.95
