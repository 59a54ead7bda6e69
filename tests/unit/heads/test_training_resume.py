"""An interrupted fit goes on as if nothing had happened; strange checkpoints are refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from selectkit.errors import ArtifactError
from selectkit.heads import (
    AbstainHead,
    Epoch,
    MlpHead,
    Recipe,
    SelectiveNet,
    SelfAdaptive,
    Sharpness,
    ThreeHead,
    fit_many,
    negative_log_likelihood,
)

Data = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


def _data(n: int = 300, seed: int = 0) -> Data:
    x = np.random.default_rng(seed).uniform(-1, 1, size=(n, 3))
    return x, (x[:, 0] * x[:, 1] + 0.3 * x[:, 2] > 0).astype(np.int64)


BASE = Recipe(hidden=6, epochs=7, batch_size=50, learning_rate=1e-2, patience=3)
VARIANTS: list[tuple[Any, Recipe]] = [
    (MlpHead, BASE),
    (MlpHead, replace(BASE, hidden=None, optimizer="sgd", averaging="bias-corrected", clip=0.5)),
    (MlpHead, replace(BASE, optimizer="lion", sharpness=Sharpness(), class_weights="balanced")),
    (ThreeHead, replace(BASE, loss=SelectiveNet(), accumulation=2)),
    (AbstainHead, replace(BASE, loss=SelfAdaptive(pretrain=2, entropy=1e-3))),
]


class Interrupted(Exception):  # noqa: N818
    pass


def _recipes(recipe: Recipe) -> list[Recipe]:
    return [
        recipe,
        replace(recipe, seed=1, learning_rate=3e-3),
        replace(recipe, seed=2, patience=1, learning_rate=0.5),
    ]


def _fit(
    head: Any, recipes: list[Recipe], path: Path | None = None, stop_after: int | None = None
) -> list[Any]:
    def on_epoch(_: int, epoch: Epoch) -> None:
        if epoch.epoch == stop_after:
            raise Interrupted

    return fit_many(
        head, *_data(), select=_data(seed=1), n_classes=2, recipes=recipes, checkpoint=path,
        on_epoch=on_epoch,
    )  # fmt: skip


@pytest.mark.parametrize("stop_after", [1, 4])
@pytest.mark.parametrize(("head", "recipe"), VARIANTS, ids=[str(i) for i in range(len(VARIANTS))])
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(
    head: Any, recipe: Recipe, stop_after: int, tmp_path: Path
) -> None:
    path, recipes = tmp_path / "fit.safetensors", _recipes(recipe)
    straight = _fit(head, recipes)
    with pytest.raises(Interrupted):
        _fit(head, recipes, path, stop_after)
    assert path.exists()
    resumed = _fit(head, recipes, path)
    assert not path.exists()
    for one, two in zip(straight, resumed, strict=True):
        assert one.history == two.history
        for name, tensor in one.network.to_tensors().items():
            np.testing.assert_array_equal(tensor, two.network.to_tensors()[name])


@pytest.mark.parametrize("stop_after", [None, 2, 5])
def test_of_equal_epochs_that_of_the_lowest_nll_is_kept(
    stop_after: int | None, tmp_path: Path
) -> None:
    x, y = _data(seed=1)
    seen: list[float] = []

    def in_two_steps(logits: Any, labels: Any) -> float:
        seen.append(negative_log_likelihood(logits, labels))
        return 1.0 if len(seen) == 1 else 0.5

    def stop(_: int, epoch: Epoch) -> None:
        if epoch.epoch == stop_after:
            raise Interrupted

    recipe = replace(BASE, epochs=12, patience=12, learning_rate=0.3, averaging=None)
    arguments: Any = {"select": (x, y), "n_classes": 2, "criterion": in_two_steps}
    path = tmp_path / "fit.safetensors"
    if stop_after is not None:
        with pytest.raises(Interrupted):
            MlpHead.fit(
                *_data(), **arguments, recipe=recipe, checkpoint=path,
                on_epoch=lambda epoch: stop(0, epoch),
            )  # fmt: skip
    head = MlpHead.fit(*_data(), **arguments, recipe=recipe, checkpoint=path)
    best = int(np.argmin(seen[1:])) + 1
    assert 1 < best < 11, "the lowest is neither the first nor the last of the equal ones"
    assert negative_log_likelihood(head.logits(x), y) == pytest.approx(seen[best], abs=1e-6)


def test_a_sweep_of_several_groups_resumes_in_the_group_it_was_in(tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    recipes = [BASE, replace(BASE, hidden=4), replace(BASE, seed=1)]
    straight = _fit(MlpHead, recipes)
    seen: list[int] = []

    def stop_in_the_second(i: int, epoch: Epoch) -> None:
        seen.append(i)
        if i == 1 and epoch.epoch == 3:
            raise Interrupted

    arguments: Any = {"select": _data(seed=1), "n_classes": 2, "recipes": recipes}
    with pytest.raises(Interrupted):
        fit_many(MlpHead, *_data(), **arguments, checkpoint=path, on_epoch=stop_in_the_second)
    again: list[int] = []
    resumed = fit_many(
        MlpHead, *_data(), **arguments, checkpoint=path, on_epoch=lambda i, _: again.append(i)
    )
    assert set(seen) == {0, 1, 2}
    assert set(again) == {1}
    for one, two in zip(straight, resumed, strict=True):
        assert isinstance(two, MlpHead)
        np.testing.assert_array_equal(one.logits(_data()[0]), two.logits(_data()[0]))
    assert list(tmp_path.iterdir()) == []


def _interrupted(path: Path) -> None:
    with pytest.raises(Interrupted):
        _fit(MlpHead, [BASE], path, stop_after=2)


def test_a_checkpoint_of_another_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    _interrupted(path)
    with pytest.raises(ArtifactError, match="belongs to a fit with other settings, data or vers"):
        _fit(MlpHead, [replace(BASE, learning_rate=1e-3)], path)
    x, y = _data()
    with pytest.raises(ArtifactError, match="belongs to a fit with other settings, data or vers"):
        MlpHead.fit(x + 1e-3, y, select=_data(seed=1), n_classes=2, recipe=BASE, checkpoint=path)
    assert path.exists()


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    _interrupted(path)
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"nonsense"):
        path.write_bytes(broken)
        with pytest.raises(ArtifactError, match="is not a readable checkpoint"):
            _fit(MlpHead, [BASE], path)
        assert path.read_bytes() == broken
    save_file({"a": np.zeros(1)}, path)
    with pytest.raises(ArtifactError, match="is not a readable checkpoint"):
        _fit(MlpHead, [BASE], path)
    document = json.dumps({"kind": "fit_checkpoint", "format_version": 1})
    save_file({"a": np.zeros(1)}, path, {"document": document})
    with pytest.raises(ArtifactError, match="'members' is a required property"):
        _fit(MlpHead, [BASE], path)
