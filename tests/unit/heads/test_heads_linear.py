"""The linear head: the optimum of an independent solver, odd inputs, and its life on disk."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import LogisticRegression

from selectkit import artifact, heads
from selectkit.arrays import log_softmax, softmax
from selectkit.errors import ArtifactError, DataError
from selectkit.heads import STRENGTHS, LinearHead

Data = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]
HASH = "sha256:" + "0" * 64


def _data(n: int, d: int, k: int, seed: int = 0) -> Data:
    """Correlated features on uneven scales, labels from a softmax of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * rng.uniform(0.1, 10, d) + 5
    z = (x - x.mean(axis=0)) / x.std(axis=0) @ rng.normal(size=(d, k))
    return x, (z + rng.gumbel(size=z.shape)).argmax(axis=1).astype(np.int64)


def _objective(head: LinearHead, x: npt.ArrayLike, y: npt.NDArray[np.int64]) -> float:
    nll = -log_softmax(head.logits(x))[np.arange(len(y)), y].mean()
    return float(nll + head.strength / 2 * (head.weights**2).sum())


@pytest.mark.parametrize(("k", "strength"), [(2, 1.0), (2, 1e-3), (4, 1.0), (4, 1e-3)])
def test_the_optimum_is_that_of_scikit_learn(k: int, strength: float) -> None:
    x, y = _data(400, 12, k)
    head = LinearHead.fit(x, y, select=(x, y), n_classes=k, strengths=[strength])
    peer = LogisticRegression(
        C=(2 if k == 2 else 1) / (len(x) * strength), tol=1e-10, max_iter=10_000
    ).fit((x - head.mean) / head.scale, y)
    expected = peer.predict_proba((x - head.mean) / head.scale)
    np.testing.assert_allclose(softmax(head.logits(x)), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("n", "d", "k"), [(60, 200, 3), (60, 200, 2), (1100, 1060, 2), (2100, 2080, 2)]
)
def test_wide_features_reach_the_optimum_of_scikit_learn(n: int, d: int, k: int) -> None:
    x, y = _data(n, d, k)
    head = LinearHead.fit(x, y, select=(x, y), n_classes=k, strengths=[0.01])
    peer = LogisticRegression(
        C=(2 if k == 2 else 1) / (len(x) * 0.01), tol=1e-8, max_iter=5_000
    ).fit((x - head.mean) / head.scale, y)
    expected = peer.predict_proba((x - head.mean) / head.scale)
    np.testing.assert_allclose(softmax(head.logits(x)), expected, atol=1e-5)


@pytest.mark.parametrize("k", [2, 3])
def test_single_precision_reaches_the_same_optimum(k: int) -> None:
    x, y = _data(3000, 20, k)
    x = x.astype(np.float32).astype(np.float64)
    exact = LinearHead.fit(x, y, select=(x, y), n_classes=k, strengths=[1e-3])
    single = LinearHead.fit(x.astype(np.float32), y, select=(x, y), n_classes=k, strengths=[1e-3])
    assert 0 <= _objective(single, x, y) - _objective(exact, x, y) < 1e-6


def test_the_slope_of_the_objective_vanishes_at_the_fit() -> None:
    x, y = _data(300, 6, 3)
    head = LinearHead.fit(x, y, select=(x, y), n_classes=3, strengths=[0.01])
    residual = softmax(head.logits(x)) - np.eye(3)[y]
    standard = (x - head.mean) / head.scale
    np.testing.assert_allclose(standard.T @ residual / len(x) + 0.01 * head.weights, 0, atol=1e-7)
    np.testing.assert_allclose(residual.mean(axis=0), 0, atol=1e-7)  # the bias is free


def test_the_strength_with_the_best_select_likelihood_wins() -> None:
    (x, y), (v, w) = _data(80, 30, 2), _data(400, 30, 2, seed=0)
    head = LinearHead.fit(x, y, select=(v, w), n_classes=2)
    strengths, scores = zip(*head.path, strict=True)
    assert strengths == STRENGTHS[: len(strengths)]
    assert head.strength == strengths[int(np.argmin(scores))]
    again = LinearHead.fit(x, y, select=(v, w), n_classes=2, strengths=[head.strength])
    np.testing.assert_allclose(again.path[0][1], min(scores), rtol=1e-5)


def test_of_equal_strengths_the_stronger_wins_and_the_path_ends_early() -> None:
    x = np.ones((10, 2))  # constant features: every strength gives the class frequencies
    y = np.array([0] * 5 + [1] * 5)
    head = LinearHead.fit(x, y, select=(x, y), n_classes=2)
    assert head.strength == STRENGTHS[0]
    assert len(head.path) == 4
    assert not head.weights.any()
    np.testing.assert_allclose(softmax(head.logits(x)), 0.5)


def test_a_constant_column_gets_no_weight() -> None:
    x, y = _data(200, 4, 2)
    x[:, 2] = 7.5
    head = LinearHead.fit(x, y, select=(x, y), n_classes=2)
    assert head.scale[2] == 1
    assert np.abs(head.weights[2]).max() < 1e-12


def test_unlabelled_rows_change_nothing() -> None:
    x, y = _data(200, 4, 3)
    half = np.where(np.arange(200) % 2 == 0, y, -1)
    with_unlabelled = LinearHead.fit(x, half, select=(x, half), n_classes=3)
    without = LinearHead.fit(x[::2], y[::2], select=(x[::2], y[::2]), n_classes=3)
    np.testing.assert_array_equal(with_unlabelled.weights, without.weights)
    assert with_unlabelled.n_train == 100


def test_every_row_twice_gives_the_same_head() -> None:
    x, y = _data(150, 5, 3)
    once = LinearHead.fit(x, y, select=(x, y), n_classes=3)
    twice = LinearHead.fit(np.r_[x, x], np.r_[y, y], select=(x, y), n_classes=3)
    np.testing.assert_allclose(twice.logits(x), once.logits(x), atol=1e-5)


def test_a_class_without_rows_is_all_but_impossible_and_finite() -> None:
    x, y = _data(300, 5, 2)
    y = np.where(y == 0, 0, 2)
    head = LinearHead.fit(x, y, select=(x, np.r_[y[:-1], 1]), n_classes=4)
    z = head.logits(x)
    assert np.isfinite(z).all()
    assert z[:, [0, 2]].max(axis=1).min() >= 0
    assert softmax(z)[:, [1, 3]].max() < 2e-22
    peer = LinearHead.fit(x, y // 2, select=(x[:-1], y[:-1] // 2), n_classes=2)
    np.testing.assert_allclose(z[:, [0, 2]], peer.logits(x), atol=1e-12)


@pytest.mark.parametrize("k", [2, 5])
def test_each_row_is_answered_the_same_alone_or_in_company(k: int) -> None:
    x, y = _data(300, 37, k)
    head = LinearHead.fit(x.astype(np.float16), y, select=(x, y), n_classes=k)
    z = head.logits(x)
    for rows in ([0], [70, 3, 299], list(range(100, 231))):
        np.testing.assert_array_equal(head.logits(x[rows]), z[rows])


def test_the_fit_is_deterministic() -> None:
    x, y = _data(500, 10, 3)
    a, b = (LinearHead.fit(x, y, select=(x, y), n_classes=3) for _ in range(2))
    np.testing.assert_array_equal(a.weights, b.weights)
    assert a.path == b.path


@pytest.mark.parametrize("strengths", [[], [1.0, 2.0], [1.0, 1.0], [1.0, 0.0], [np.nan]])
def test_unusable_strengths_are_refused(strengths: list[float]) -> None:
    x, y = _data(20, 2, 2)
    with pytest.raises(DataError, match="strengths must be positive numbers, strongest first, got"):
        LinearHead.fit(x, y, select=(x, y), n_classes=2, strengths=strengths)


def test_one_class_and_wrong_width_are_refused() -> None:
    x, y = _data(20, 2, 2)
    with pytest.raises(DataError, match="train holds only class 0"):
        LinearHead.fit(x, 0 * y, select=(x, y), n_classes=2)
    head = LinearHead.fit(x, y, select=(x, y), n_classes=2)
    with pytest.raises(DataError, match="features have 1 columns but the head was fitted on 2"):
        head.logits(x[:, :1])


def _saved(path: Path) -> LinearHead:
    x, y = _data(50, 3, 2)
    head = LinearHead.fit(x, y, select=(x, y), n_classes=2)
    document, tensors = head.to_artifact()
    context = {
        "classes": ["cat", "dog"],
        "positive": "dog",
        "view": "base",
        "view_hash": HASH,
        "feature": "cls",
        "splits": {"salt": "", "fractions": {}},
        "train_split": HASH,
        "select_split": HASH,
    }
    artifact.save(path, "head", {**document, **context}, tensors)
    return head


def test_a_saved_head_comes_back_exactly(tmp_path: Path) -> None:
    head = _saved(tmp_path / "head.json")
    back = heads.load(*artifact.load(tmp_path / "head.json", "head"))
    assert isinstance(back, LinearHead)
    x = _data(50, 3, 2)[0]
    np.testing.assert_array_equal(back.logits(x), head.logits(x))
    assert (back.strength, back.path, back.n_train) == (head.strength, head.path, head.n_train)


def test_damaged_head_artifacts_are_refused(tmp_path: Path) -> None:
    _saved(tmp_path / "head.json")
    document, tensors = artifact.load(tmp_path / "head.json", "head")
    with pytest.raises(ArtifactError, match="head type 'tree' is unknown to this release; known:"):
        heads.load({**document, "type": "tree"}, tensors)
    with pytest.raises(ArtifactError, match="linear head lacks the tensor 'mean'"):
        heads.load(document, {k: v for k, v in tensors.items() if k != "mean"})
    with pytest.raises(ArtifactError, match=r"'bias' of the linear head must have shape \(2,\)"):
        heads.load(document, {**tensors, "bias": np.zeros(3)})
    with pytest.raises(ArtifactError, match="tensor 'bias' of the linear head is not finite"):
        heads.load(document, {**tensors, "bias": np.array([0, np.nan])})
    with pytest.raises(ArtifactError, match="document of the linear head lacks 'path'"):
        heads.load({**document, "training": {"strength": 1.0}}, tensors)
    with pytest.raises(ArtifactError, match="document of the linear head is malformed"):
        heads.load({**document, "training": {"strength": "much"}}, tensors)
