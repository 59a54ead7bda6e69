"""Fitted scores against plain float64 formulas, their refusals, and their life on disk."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from selectkit import artifact
from selectkit.arrays import softmax
from selectkit.errors import ArtifactError, ConfigError, DataError
from selectkit.policies import FITTED, Outputs, SoftmaxPolicy, Target, TrainRows, scores
from selectkit.policies.scores import Gate, Mahalanobis, Neighbours, React, Residual, Vim
from selectkit.policies.scores import neighbours as knn_module

Float64s = npt.NDArray[np.float64]
N, D, K = 400, 10, 3
HASH = "sha256:" + "0" * 64

each = pytest.mark.parametrize("kind", sorted(FITTED))


def _rows(n: int = N, d: int = D, seed: int = 0) -> tuple[Float64s, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, K, n)
    means = np.random.default_rng(7).normal(size=(K, d)) * 2
    return means[y] + rng.normal(size=(n, d)) @ np.diag(np.linspace(0.3, 2, d)) + 4, y


def _classifier(d: int = D) -> tuple[Float64s, Float64s]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(d, K)), rng.normal(size=K)


def _train(n: int = N, d: int = D, linear: bool = True) -> TrainRows:
    x, y = _rows(n, d)
    w, b = _classifier(d)
    return TrainRows(x, y, x @ w + b, (w, b) if linear else None)


def _outputs(x: Float64s) -> Outputs:
    w, b = _classifier(x.shape[1])
    z = x @ w + b
    return Outputs(z, softmax(z), x, head=lambda features: features @ w + b)


def test_mahalanobis_is_the_distance_in_the_shrunk_covariance() -> None:
    train, (v, _) = _train(), _rows(50, seed=1)
    score = Mahalanobis.fit(train)
    scale = train.features.std(axis=0)
    z, u = train.features / scale, v / scale
    means = np.stack([z[train.labels == k].mean(axis=0) for k in range(K)])
    within = np.cov((z - means[train.labels]).T, bias=True)
    shared = (1 - score.shrinkage) * within + score.shrinkage * np.trace(within) / D * np.eye(D)
    expected = [-min((row - m) @ np.linalg.solve(shared, row - m) for m in means) for row in u]
    assert 0 < score.shrinkage < 0.2
    np.testing.assert_allclose(score(_outputs(v)), expected, rtol=1e-9)


def test_the_shrinkage_is_that_of_ledoit_and_wolf() -> None:
    from sklearn.covariance import ledoit_wolf

    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 20)) * np.linspace(1, 3, 20)
    score = Mahalanobis.fit(TrainRows(x, np.zeros(60, dtype=np.int64), np.zeros((60, 2))))
    _, expected = ledoit_wolf((x - x.mean(axis=0)) / x.std(axis=0), assume_centered=True)
    np.testing.assert_allclose(score.shrinkage, expected, rtol=1e-9)


def test_knn_is_the_distance_to_the_k_th_neighbour() -> None:
    train, (v, _) = _train(), _rows(50, seed=1)
    score = Neighbours.fit(train)
    unit = train.features / np.linalg.norm(train.features, axis=1, keepdims=True)
    query = v / np.linalg.norm(v, axis=1, keepdims=True)
    distances = np.sort(np.linalg.norm(query[:, np.newaxis] - unit, axis=2), axis=1)
    assert score.neighbour == 50
    np.testing.assert_allclose(score(_outputs(v)), -distances[:, 49], atol=1e-3)


def test_knn_keeps_a_part_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn_module, "MOST_ROWS", 30)
    score = Neighbours.fit(_train())
    assert len(score.rows) <= 30
    assert score.neighbour == len(score.rows)
    assert score.n_train == N


def _residual(v: Float64s) -> Float64s:
    train, (w, b) = _train(), _classifier()
    origin = -np.linalg.pinv(w.T) @ b
    _, _, vt = np.linalg.svd(train.features - origin, full_matrices=True)
    return np.asarray(np.linalg.norm((v - origin) @ vt[D // 2 :].T, axis=1))


def test_the_residual_is_what_the_principal_space_leaves() -> None:
    v, _ = _rows(50, seed=1)
    np.testing.assert_allclose(Residual.fit(_train())(_outputs(v)), -_residual(v), rtol=1e-8)


def test_at_the_origin_of_the_residual_all_logits_are_alike() -> None:
    w, b = _classifier()
    origin = Residual.fit(_train()).origin
    np.testing.assert_allclose(origin @ w + b, 0, atol=1e-10)
    mean = Residual.fit(_train(linear=False)).origin
    np.testing.assert_allclose(mean, _train().features.mean(axis=0))


def test_a_class_without_weights_does_not_move_the_origin() -> None:
    train, (w, b) = _train(), _classifier()
    wide = np.hstack([w, np.zeros((D, 1))]), np.append(b, -50.0)
    z = train.features @ wide[0] + wide[1]
    four = Residual.fit(TrainRows(train.features, train.labels, z, wide))
    np.testing.assert_allclose(four.origin, Residual.fit(train).origin)


def test_vim_ranks_as_the_probability_of_the_virtual_logit() -> None:
    train, (v, _) = _train(), _rows(50, seed=1)
    outputs = _outputs(v)
    alpha = train.logits.max(axis=1).sum() / _residual(_rows()[0]).sum()
    virtual = alpha * _residual(v)
    p = softmax(np.column_stack([outputs.logits, virtual]))[:, -1]
    score = Vim.fit(train)
    np.testing.assert_allclose(score.alpha, alpha, rtol=1e-8)
    np.testing.assert_allclose(score(outputs), np.log1p(-p) - np.log(p), rtol=1e-6)


def test_react_clips_both_tails_before_the_head() -> None:
    train, (v, _) = _train(), _rows(50, seed=1)
    score = React.fit(train)
    mean, deviation = train.features.mean(axis=0), train.features.std(axis=0)
    c = np.percentile(np.abs(train.features - mean) / deviation, 90)
    np.testing.assert_allclose(score.high, mean + c * deviation)
    w, b = _classifier()
    z = np.clip(v, mean - c * deviation, mean + c * deviation) @ w + b
    np.testing.assert_allclose(score(_outputs(v)), np.log(np.exp(z).sum(axis=1)))
    with pytest.raises(DataError, match="react asks the head about clipped features"):
        score(Outputs(z, softmax(z), v))


@pytest.mark.parametrize("kind", sorted(set(FITTED) - {"react"}))  # clipping bounds the far
def test_far_away_is_accepted_last(kind: str) -> None:
    score = FITTED[kind].fit(_train())
    near, _ = _rows(100, seed=1)
    far = near - 100 * np.sign(_classifier()[0].sum(axis=1))
    assert score(_outputs(far)).max() < np.median(score(_outputs(near)))


@each
def test_scores_are_row_by_row_and_finite(kind: str) -> None:
    score = FITTED[kind].fit(_train())
    v, _ = _rows(200, seed=1)
    s = score(_outputs(v))
    assert s.shape == (200,)
    assert s.dtype == np.float64
    assert np.isfinite(s).all()
    if kind != "react":  # which asks the caller's head
        for rows in (slice(7, 8), slice(60, 131)):
            np.testing.assert_array_equal(score(_outputs(v).take(np.arange(200)[rows])), s[rows])


@each
def test_only_the_features_given_decide(kind: str) -> None:
    x, y = _rows()
    w, b = _classifier()
    half = TrainRows(x.astype(np.float16), y, x @ w + b, (w, b))
    v = _outputs(_rows(50, seed=1)[0])
    a, c = (FITTED[kind].fit(t)(v) for t in (_train(), half))
    np.testing.assert_allclose(a, c, rtol=0.02, atol=0.02)


@each
@pytest.mark.parametrize("case", ["constant", "one row", "wide", "one feature", "duplicates"])
def test_odd_training_rows_give_finite_scores(kind: str, case: str) -> None:
    x, y = _rows(30, 60) if case == "wide" else _rows()
    match case:
        case "constant":
            x = np.full_like(x, 0.1)
        case "one row":
            x, y = x[:1], y[:1]
        case "one feature":
            x = x[:, :1]
        case "duplicates":
            x, y = x[:20].repeat(20, axis=0), y[:20].repeat(20)
    w, b = _classifier(x.shape[1])
    score = FITTED[kind].fit(TrainRows(x, y, x @ w + b, (w, b)))
    assert np.isfinite(score(_outputs(np.vstack([x, x + 1])))).all()


def test_mahalanobis_leaves_unlabelled_rows_out() -> None:
    train = _train()
    half = np.where(np.arange(N) % 2 == 0, train.labels, -1)
    some = Mahalanobis.fit(TrainRows(train.features, half, train.logits))
    few = Mahalanobis.fit(TrainRows(train.features[::2], train.labels[::2], train.logits[::2]))
    np.testing.assert_array_equal(some.centres, few.centres)
    with pytest.raises(DataError, match="mahalanobis needs labelled rows of train"):
        Mahalanobis.fit(TrainRows(train.features, np.full(N, -1), train.logits))


@each
def test_what_a_score_needs_is_asked_for(kind: str) -> None:
    score = FITTED[kind].fit(_train())
    v, _ = _rows(5, seed=1)
    o = _outputs(v)
    with pytest.raises(DataError, match=f"the score {kind} needs features; the outputs have none"):
        score(Outputs(o.logits, o.probabilities))
    with pytest.raises(DataError, match=f"the score {kind} was fitted on 10 features, got shape"):
        score(Outputs(o.logits, o.probabilities, v[:, :9]))
    v[3, 2] = np.nan
    with pytest.raises(DataError, match="the features in row 3 are not finite"):
        score(Outputs(o.logits, o.probabilities, v, head=o.head))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros(3)}, r"features must be real, of shape \(N, D\)"),
        ({"labels": np.zeros(2, dtype=np.int64)}, "must have equal lengths and labels be integers"),
        ({"labels": np.full(N, K)}, r"labels must lie in \[-1, 3\), got 3 to 3"),
        ({"logits": np.full((N, K), np.nan)}, "logits is nan in row 0"),
        ({"classifier": (np.zeros((D, 2)), np.zeros(2))}, "the classifier must map"),
    ],
)
def test_unusable_training_rows_are_refused(change: dict[str, object], message: str) -> None:
    train = _train()
    fields = {name: getattr(train, name) for name in ("features", "labels", "logits", "classifier")}
    with pytest.raises(DataError, match=message):
        TrainRows(**{**fields, **change})


def test_training_features_that_are_not_finite_are_named() -> None:
    x, y = _rows()
    x[333, 1] = np.inf
    with pytest.raises(DataError, match="features are not finite in row 333"):
        TrainRows(x, y, np.zeros((N, K)))


@each
def test_a_saved_score_comes_back_exactly(kind: str, tmp_path: Path) -> None:
    score = FITTED[kind].fit(_train())
    document, tensors = score.to_artifact()
    context = {"head": HASH, "train_split": HASH}
    artifact.save(tmp_path / "score.json", "score", {**document, **context}, tensors)
    stored, arrays = artifact.load(tmp_path / "score.json", "score")
    outputs = _outputs(_rows(50, seed=1)[0])
    np.testing.assert_array_equal(scores.load(stored, arrays)(outputs), score(outputs))
    name = next(iter(tensors))
    for broken in (
        {k: v for k, v in arrays.items() if k != name},
        {**arrays, name: np.zeros((2, 2, 2))},
        {**arrays, name: np.full_like(arrays[name], np.nan)},
    ):
        with pytest.raises(ArtifactError, match=f"score {kind} needs a finite tensor '{name}'"):
            scores.load(stored, broken)
    with pytest.raises(ArtifactError, match="score type 'odin' is unknown to this release; known:"):
        scores.load({**stored, "type": "odin"}, arrays)


def test_settings_that_make_no_sense_are_refused() -> None:
    fields, tensors = Neighbours.fit(_train()).to_artifact()
    with pytest.raises(ArtifactError, match="the score knn has no neighbour 0"):
        scores.load({**fields, "settings": {"neighbour": 0.0}}, tensors)
    with pytest.raises(ArtifactError, match="the document of the score knn is malformed"):
        scores.load({**fields, "settings": {}}, tensors)
    fields, tensors = React.fit(_train()).to_artifact()
    with pytest.raises(ArtifactError, match="clips to an empty range"):
        scores.load(fields, {"low": tensors["high"], "high": tensors["low"]})


def test_the_gate_is_its_logit_on_a_line() -> None:
    z = np.zeros((3, 2))
    outputs = Outputs(z, softmax(z), gate=np.array([-1.0, 0.0, 200.0]))
    np.testing.assert_allclose(Gate(2.0, 0.5)(outputs), [-1.5, 0.5, 400.5])
    assert Gate.from_dict(Gate(2.0, 0.5).to_dict()) == Gate(2.0, 0.5)
    with pytest.raises(DataError, match="needs a head with a trained gate"):
        Gate()(Outputs(z, softmax(z)))
    with pytest.raises(ArtifactError, match="slope must be positive"):
        Gate.from_dict({"parameters": {"slope": 0, "intercept": 0}})
    with pytest.raises(ArtifactError, match="the gate's calibration"):
        Gate.from_dict({"parameters": {}})


@pytest.mark.parametrize("gate", [np.zeros(2), np.array([0.0, np.nan, 0.0])])
def test_unusable_gates_are_refused(gate: Float64s) -> None:
    z = np.zeros((3, 2))
    with pytest.raises(DataError, match="gate logits"):
        Outputs(z, softmax(z), gate=gate)


def test_some_rows_keep_everything() -> None:
    v = _rows(9, seed=1)[0]
    o = _outputs(v)
    some = Outputs(o.logits, o.probabilities, v, np.arange(9.0), o.head).take(np.array([2, 5]))
    assert len(some) == 2
    np.testing.assert_array_equal(some.features, v[[2, 5]])
    np.testing.assert_array_equal(some.gate, [2.0, 5.0])
    assert some.head is o.head


def test_a_policy_works_with_a_fitted_score_and_comes_back_with_it_only() -> None:
    score = Mahalanobis.fit(_train())
    x, y = _rows(300, seed=2)
    outputs = _outputs(x)
    policy = SoftmaxPolicy.fit(outputs, y, target=Target("coverage", 0.5), score=score)
    assert isinstance(policy, SoftmaxPolicy)
    assert policy.score == "mahalanobis"
    assert policy.scored_by is score
    decision = policy.decide(outputs)
    assert decision.accepted.mean() == 0.5
    np.testing.assert_array_equal(decision.score, score(outputs))
    document = policy.to_dict()
    back = SoftmaxPolicy.from_dict(document, score)
    np.testing.assert_array_equal(back.decide(outputs).accepted, decision.accepted)
    with pytest.raises(ArtifactError, match="looks at the score 'mahalanobis', and the fitted"):
        SoftmaxPolicy.from_dict(document)
    with pytest.raises(ArtifactError, match="the fitted score beside it is 'gate'"):
        SoftmaxPolicy.from_dict(document, Gate())
    with pytest.raises(ArtifactError, match="looks at the score 'msp'"):
        SoftmaxPolicy.from_dict({**document, "score": "msp"}, score)
    with pytest.raises(ConfigError, match="'knn' has numbers of its own: fit it"):
        SoftmaxPolicy.fit(outputs, y, target=Target("coverage", 0.5), score="knn")
