"""Training on a CUDA device gives the heads of the CPU, up to the rounding of its products."""

from typing import Any

import numpy as np
import pytest

from selectkit.heads import (
    AbstainHead,
    MlpHead,
    Recipe,
    SelectiveNet,
    SelfAdaptive,
    Sharpness,
    ThreeHead,
    fit_many,
)

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

BASE = Recipe(hidden=32, epochs=4, batch_size=128, learning_rate=1e-2, precision="float32")


@pytest.mark.parametrize(
    ("head", "settings"),
    [
        (MlpHead, {}),
        (MlpHead, {"hidden": None, "optimizer": "sgd", "clip": 1.0}),
        (MlpHead, {"optimizer": "lion", "learning_rate": 1e-3, "sharpness": Sharpness()}),
        (ThreeHead, {"loss": SelectiveNet(), "class_weights": "balanced", "accumulation": 2}),
        (AbstainHead, {"loss": SelfAdaptive(entropy=1e-3)}),
    ],
)
@pytest.mark.parametrize("working_set", [2**30, 2**16])
def test_the_device_gives_the_heads_of_the_cpu(
    head: Any, settings: dict[str, Any], working_set: int
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 20)).astype(np.float16)
    y = (x[:, 0] + 0.3 * rng.normal(size=2000) > 0).astype(np.int64)
    recipe = Recipe(**{f: getattr(BASE, f) for f in BASE.__dataclass_fields__} | settings)
    fits: list[Any] = [
        fit_many(
            head, x, y, select=(x, y), n_classes=2, recipes=[recipe], device=device,
            working_set=working_set,
        )[0]
        for device in ("cpu", "cuda")
    ]  # fmt: skip
    np.testing.assert_allclose(fits[1].logits(x), fits[0].logits(x), atol=2e-2)
    assert fits[1].history[-1].train_loss == pytest.approx(fits[0].history[-1].train_loss, abs=1e-3)


def test_bfloat16_on_the_device_ends_at_the_same_loss() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 1280)).astype(np.float16)
    y = (x[:, :20].sum(axis=1) > 0).astype(np.int64)
    losses = []
    for precision in ("float32", "bfloat16"):
        recipe = Recipe(epochs=5, precision=precision)
        head = MlpHead.fit(x, y, select=(x, y), n_classes=2, recipe=recipe, device="cuda")
        losses.append(head.history[-1].train_loss)
    assert losses[1] == pytest.approx(losses[0], abs=0.02)
