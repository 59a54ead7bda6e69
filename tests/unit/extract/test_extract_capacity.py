from typing import Any, Literal

import pytest

from selectkit.extract import load_backbone
from selectkit.extract.backbones.capacity import (
    auto_batch_size,
    cpu_batch_size,
    flops_per_image,
    largest_batch,
    matmul_ceiling,
    utilisation,
)
from tests.unit.extract.extract_tools import StubBackbone


def test_batches_of_32_without_cuda() -> None:
    assert auto_batch_size(StubBackbone(), 8) == 32
    assert auto_batch_size(load_backbone("tiny", device="cpu"), 32) == 32


@pytest.mark.parametrize(("dtype", "expected"), [("float32", 8), ("bfloat16", 16)])
def test_on_the_cpu_no_layer_writes_more_than_the_allocator_keeps(
    dtype: Literal["float32", "bfloat16"], expected: int
) -> None:
    backbone = load_backbone("tiny", device="cpu", dtype=dtype)
    config: Any = backbone.model.config
    widest = ((400 // backbone.patch_size) ** 2 + backbone.n_prefix) * config.intermediate_size
    widest *= 2 if dtype == "bfloat16" else 4
    assert expected * widest < 2**25 <= 2 * expected * widest
    assert cpu_batch_size(backbone, 400) == expected == auto_batch_size(backbone, 400)
    assert not any(m._forward_hooks for m in backbone.model.modules())


def test_largest_batch_fits() -> None:
    assert largest_batch(1e6, 1e12) == 512
    assert largest_batch(1e9, 70e9) == 64
    assert largest_batch(1e9, 1e9) == 1


def test_operations_are_those_of_the_matrix_products() -> None:
    backbone = load_backbone("tiny", device="cpu")
    config: Any = backbone.model.config
    side = backbone.patch_size
    d, hidden, patches = config.hidden_size, config.intermediate_size, (32 // side) ** 2
    tokens = patches + backbone.n_prefix
    layers = config.num_hidden_layers
    linear = tokens * (4 * d * d + (3 if config.use_gated_mlp else 2) * d * hidden)
    attention = 2 * tokens * tokens * d
    embedding = patches * side * side * 3 * d
    expected = 2 * (layers * (linear + attention) + embedding)
    assert flops_per_image(backbone, 32) == expected
    flipped = load_backbone("tiny", device="cpu", flip=True)
    assert flops_per_image(flipped, 32) == 2 * expected


def test_utilisation_is_a_share_of_the_ceiling() -> None:
    assert matmul_ceiling("cpu", "float32", side=64, repetitions=2) > 1e6
    backbone = load_backbone("tiny", device="cpu")
    assert utilisation(backbone, 32, 0.0) == 0
