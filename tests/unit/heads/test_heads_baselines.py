"""The cheap heads: known answers, the same odd inputs for all, and their life on disk."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from selectkit import artifact, heads
from selectkit.arrays import softmax
from selectkit.errors import ArtifactError, DataError
from selectkit.heads import KnnHead, LinearHead, PrototypeHead, RidgeHead, knn
from selectkit.neighbours import nearest

Data: TypeAlias = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]
CHEAP = (PrototypeHead, KnnHead, RidgeHead)
ALL = (*CHEAP, LinearHead)
AnyHead: TypeAlias = type[PrototypeHead] | type[KnnHead] | type[RidgeHead] | type[LinearHead]
HASH = "sha256:" + "0" * 64

each = pytest.mark.parametrize("head", ALL, ids=lambda h: h.kind)


def _blobs(n: int, d: int, k: int, seed: int = 0, apart: float = 3.0) -> Data:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(k, d)) * apart / np.sqrt(d)
    y = rng.integers(0, k, n)
    return centres[y] + rng.normal(size=(n, d)) / np.sqrt(d), y


def _nll(z: npt.NDArray[np.float64], y: npt.NDArray[np.int64]) -> float:
    return float(-np.log(softmax(z)[np.arange(len(y)), y]).mean())


@each
@pytest.mark.parametrize("k", [2, 5])
def test_every_head_finds_what_is_there(head: AnyHead, k: int) -> None:
    (x, y), (v, w) = _blobs(600, 12, k), _blobs(300, 12, k, seed=1)
    z = head.fit(x, y, select=(v, w), n_classes=k).logits(v)
    assert z.shape == (300, k)
    assert z.dtype == np.float64
    assert (z.argmax(axis=1) == w).mean() > 0.95
    assert _nll(z, w) < 0.2


def test_prototypes_are_class_means_of_standardised_rows() -> None:
    x = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
    y = np.array([0, 0, 1, 1])
    head = PrototypeHead.fit(x, y, select=(x, y), n_classes=2)
    shrunk = 2 / (2 + head.prior_rows)
    np.testing.assert_allclose(head.prototypes, [[0, -shrunk], [0, shrunk]], atol=1e-7)
    z = head.logits(np.array([[1.0, 3.0]]))
    assert z[0, 1] > 0 > z[0, 0]
    if head.distance == "euclidean":
        np.testing.assert_allclose(z[0, 1] - z[0, 0], head.scale * 2 * shrunk * 0.5, rtol=1e-6)


def test_the_ridge_solution_is_that_of_the_normal_equations() -> None:
    (x, y), (v, w) = _blobs(80, 6, 3), _blobs(80, 6, 3, seed=1)
    head = RidgeHead.fit(x, y, select=(v, w), n_classes=3)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    target = np.eye(3)[y]
    expected = np.linalg.solve(
        z.T @ z / 80 + head.strength * np.eye(6), z.T @ (target - target.mean(axis=0)) / 80
    )
    expected -= expected.mean(axis=1, keepdims=True)
    ratio = head.weights / expected
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-5)
    assert ratio[0, 0] > 0


def test_the_ridge_strength_is_the_best_on_select() -> None:
    (x, y), (v, w) = _blobs(40, 30, 2, apart=1.0), _blobs(300, 30, 2, seed=1, apart=1.0)
    head = RidgeHead.fit(x, y, select=(v, w), n_classes=2)
    strengths, losses = zip(*head.path, strict=True)
    assert head.strength == strengths[int(np.argmin(losses))]
    np.testing.assert_allclose(_nll(head.logits(v), w), min(losses), rtol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 300])
def test_nearest_is_a_full_sort(k: int) -> None:
    rng = np.random.default_rng(0)
    queries, references = rng.normal(size=(300, 5)), rng.normal(size=(9001, 5)).astype(np.float16)
    found, numbers = nearest(queries, references, k)
    products = queries.astype(np.float32) @ references.astype(np.float32).T
    expected = -np.sort(-products, axis=1)[:, :k]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(products, numbers, 1), expected, atol=1e-5)


def test_of_equal_neighbours_the_earlier_comes_first() -> None:
    rng = np.random.default_rng(0)
    queries = rng.integers(-2, 3, size=(50, 3)).astype(np.float32)
    references = rng.integers(-2, 3, size=(9000, 3)).astype(np.float32)
    expected = np.argsort(-(queries @ references.T), axis=1, kind="stable")[:, :20]
    np.testing.assert_array_equal(nearest(queries, references, 20)[1], expected)


def test_the_vote_of_neighbours_is_what_the_formula_says() -> None:
    x = np.array([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, -0.1]])
    y = np.array([0, 0, 1, 1])
    head = KnnHead.fit(x, y, select=(x, y), n_classes=3)
    unit = (x - head.mean) / head.scale
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosine = np.sort((unit @ unit.T)[0])[::-1][: head.neighbours]
    votes = np.exp((cosine - cosine[0]) / head.temperature)
    own = votes[:2].sum()  # the two rows of its class are the nearest
    expected = np.log((own + 0.5) / (votes.sum() + 1))
    z = head.logits(x)
    np.testing.assert_allclose(z[0, 0], expected, atol=1e-3)
    np.testing.assert_allclose(np.exp(z[:, :2]).sum(axis=1), 1)
    assert (z[:, 2] == -50).all()


def test_a_large_training_set_is_thinned_but_keeps_every_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(knn, "MOST_ROWS", 50)
    x, y = _blobs(400, 4, 2)
    y[:] = y % 2
    y[7] = 2
    head = KnnHead.fit(x, y, select=(x, y), n_classes=3)
    assert len(head.rows) <= 52
    assert set(head.codes.tolist()) == {0, 1, 2}
    assert head.n_train == 400


@each
def test_one_class_is_refused(head: AnyHead) -> None:
    x, y = _blobs(20, 3, 2)
    with pytest.raises(DataError, match="train holds only class 0 in its 20 labelled rows"):
        head.fit(x, 0 * y, select=(x, y), n_classes=2)


@each
def test_constant_features_give_class_frequencies_or_nothing(head: AnyHead) -> None:
    x, y = np.full((40, 3), 0.1), np.array([0] * 30 + [1] * 10)
    p = softmax(head.fit(x, y, select=(x, y), n_classes=2).logits(x))
    assert (p == p[0]).all()
    assert p[0, 0] >= 0.5


@each
@pytest.mark.parametrize(
    "case", ["wide", "two per class", "imbalance", "duplicates", "one feature", "huge offset"]
)
def test_odd_data_give_a_sensible_head(head: AnyHead, case: str) -> None:
    x, y = _blobs(400, 8, 3)
    match case:
        case "wide":
            x, y = _blobs(60, 300, 3, apart=8.0)
        case "two per class":
            x, y = np.eye(3).repeat(2, axis=0) + [[0.0], [0.1]] * 3, np.arange(3).repeat(2)
        case "imbalance":
            x, y = _blobs(3003, 8, 3)
            y = np.zeros(3003, dtype=np.int64)
            y[:3], x[:3] = 2, x[:3] + 2
        case "duplicates":
            x, y = x.repeat(10, axis=0), y.repeat(10)
        case "one feature":
            x, y = x[:, :1], (x[:, 0] > x[:, 0].mean()).astype(np.int64)
        case _:
            x = x * 1e-2 + 1e4
    fitted = head.fit(x, y, select=(x, y), n_classes=3)
    z = fitted.logits(x)
    assert np.isfinite(z).all()
    assert (z.argmax(axis=1) == y).mean() > 0.9
    absent = np.setdiff1d(np.arange(3), y)
    assert softmax(z)[:, absent].max(initial=0) < 1e-20


@each
def test_unlabelled_rows_change_nothing(head: AnyHead) -> None:
    x, y = _blobs(200, 4, 3)
    half = np.where(np.arange(200) % 2 == 0, y, -1)
    a = head.fit(x, half, select=(x, half), n_classes=3)
    b = head.fit(x[::2], y[::2], select=(x[::2], y[::2]), n_classes=3)
    np.testing.assert_allclose(a.logits(x), b.logits(x), atol=1e-9)
    assert a.n_train == 100


@each
def test_each_row_is_answered_the_same_alone_or_in_company(head: AnyHead) -> None:
    x, y = _blobs(300, 9, 3)
    fitted = head.fit(x, y, select=(x, y), n_classes=3)
    z = fitted.logits(x)
    for rows in ([0], [70, 3, 299], list(range(100, 231))):
        np.testing.assert_array_equal(fitted.logits(x[rows]), z[rows])
    with pytest.raises(DataError, match="features have 8 columns but the head was fitted on 9"):
        fitted.logits(x[:, :8])


@pytest.mark.parametrize("head", CHEAP, ids=lambda h: h.kind)
def test_a_saved_head_comes_back_exactly(
    head: type[PrototypeHead] | type[KnnHead] | type[RidgeHead], tmp_path: Path
) -> None:
    x, y = _blobs(60, 5, 2)
    fitted = head.fit(x, y, select=(x, y), n_classes=3)
    context = {
        "classes": ["a", "b", "c"], "positive": None, "view": "base", "view_hash": HASH,
        "feature": "cls", "splits": {"salt": "", "fractions": {}}, "train_split": HASH,
        "select_split": HASH,
    }  # fmt: skip
    document, tensors = fitted.to_artifact()
    artifact.save(tmp_path / "head.json", "head", {**document, **context}, tensors)
    stored, arrays = artifact.load(tmp_path / "head.json", "head")
    back = heads.load(stored, arrays)
    assert isinstance(back, head)
    np.testing.assert_array_equal(back.logits(x), fitted.logits(x))
    with pytest.raises(ArtifactError, match=f"{head.kind} head lacks the tensor 'mean'"):
        heads.load(stored, {k: v for k, v in arrays.items() if k != "mean"})
    with pytest.raises(ArtifactError, match=f"the document of the {head.kind} head lacks"):
        heads.load({**stored, "training": {}}, arrays)


def test_neighbours_that_do_not_exist_are_refused() -> None:
    x, y = _blobs(30, 2, 2)
    document, tensors = KnnHead.fit(x, y, select=(x, y), n_classes=2).to_artifact()
    with pytest.raises(ArtifactError, match="neighbours or codes make no sense"):
        KnnHead.from_artifact(document, {**tensors, "codes": np.full(30, 2)})
