"""The selective conformal policy: decisions, promises, its file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit import artifact
from selectkit.errors import ArtifactError, ConfigError, DataError
from selectkit.policies import Outputs, ScrcPolicy, Target
from selectkit.policies.sets import SETS, second_entering
from selectkit.risk import Infeasible

HASH = "sha256:" + "0" * 64
CONTEXT = {
    "kind": "scrcparams", "format_version": 1, "head": HASH, "calibrator": HASH, "split": "calib",
}  # fmt: skip
CHOICES = [(v, e) for v in ("t", "split_pac", "joint") for e in ("accepted", "singletons")]


def rows(n: int = 3000, k: int = 2, seed: int = 0) -> tuple[Outputs, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2.5, (n, k))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    y = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return Outputs(z, p), y


def fitted(**settings: Any) -> ScrcPolicy:
    k = settings.pop("k", 2)
    asked: dict[str, Any] = {"target": Target("error", 0.1), "xi": 0.6} | settings
    policy = ScrcPolicy.fit(*rows(k=k), **asked)
    assert isinstance(policy, ScrcPolicy), policy
    return policy


@pytest.mark.parametrize(("variant", "exits"), CHOICES)
@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("sets", SETS)
def test_decisions_follow_threshold_and_sets(k: int, variant: str, exits: str, sets: str) -> None:
    policy = fitted(k=k, variant=variant, exits=exits, sets=sets)
    outputs, y = rows(k=k, seed=1)
    d = policy.decide(outputs)
    np.testing.assert_array_equal(d.accepted, d.score >= policy.threshold)
    s = outputs.probabilities.max(axis=1)
    size = d.prediction_set.sum(axis=1)
    assert d.prediction_set[np.arange(len(y)), d.prediction].all()
    assert (size[s <= policy.lambda1] == k).all()
    if exits == "accepted":
        np.testing.assert_array_equal(d.accepted, s > policy.lambda1)
        assert d.accepted.mean() > 0.55
        missed = ~d.prediction_set[np.arange(len(y)), y]
        assert missed[d.accepted].mean() < 0.13
    else:
        np.testing.assert_array_equal(d.accepted, (s > policy.lambda1) & (size == 1))
        assert (d.prediction != y)[d.accepted].mean() < 0.13
        assert d.accepted.any()


@pytest.mark.parametrize(("variant", "exits"), CHOICES)
def test_certificates_count_what_the_policy_does(variant: str, exits: str) -> None:
    policy = fitted(variant=variant, exits=exits, split="abc")
    assert all((c.split, c.delta) == ("abc", 0.1) for c in policy.certificates)
    if variant != "split_pac":
        outputs, y = rows()
        d = policy.decide(outputs)
        selected = outputs.probabilities.max(axis=1) > policy.lambda1
        missed = ~d.prediction_set[np.arange(len(y)), y]
        first = policy.certificates[0]
        assert (first.n_accepted, first.errors) == (selected.sum(), missed[selected].sum())
        if exits == "singletons":
            last, wrong = policy.certificates[2], d.prediction != y
            assert (last.n_accepted, last.errors) == (d.accepted.sum(), wrong[d.accepted].sum())
            assert last.coverage == d.accepted.mean()
            assert 0 < last.coverage_lower < last.coverage
    assert policy.certificates[0].risk_upper <= 0.1


@pytest.mark.parametrize(("variant", "exits"), CHOICES)
def test_sentences_say_whom_they_are_about(variant: str, exits: str) -> None:
    policy = fitted(variant=variant, exits=exits)
    said = " ".join(policy.sentences())
    assert "10 % of accepted images have a prediction set without the true class" in said
    assert ("On average" in said) == (variant != "joint")
    assert ("With 90 % confidence" in said) == ((variant, exits) != ("t", "accepted"))
    warning = "nothing is promised about the error of images whose set is a single class"
    assert (warning in said) == (exits == "accepted")
    assert ("automatically decided images are wrong" in said) == (exits == "singletons")
    assert ("single class" in policy.rule()) == (exits == "singletons")
    grouped = policy.counting_groups()
    assert all(c.grouped for c in grouped.certificates)
    assert "one image of each group" in grouped.sentences()[0]


@pytest.mark.parametrize(("variant", "exits"), CHOICES)
def test_missed_positives(variant: str, exits: str) -> None:
    policy = fitted(target=Target("fnr", 0.1), positive=1, variant=variant, exits=exits)
    outputs, y = rows(seed=2)
    d = policy.decide(outputs)
    accepted = d.accepted & (y == 1)
    loss = ~d.prediction_set[:, 1] if exits == "accepted" else d.prediction != 1
    assert loss[accepted].mean() < 0.14
    assert policy.certificates[0].risk == "set_fnr"
    assert policy.certificates[0].n < 3000


@pytest.mark.parametrize(("variant", "exits"), CHOICES)
def test_a_saved_policy_comes_back_exactly(tmp_path: Path, variant: str, exits: str) -> None:
    path = tmp_path / "scrcparams.json"
    for policy in (
        fitted(variant=variant, exits=exits),
        fitted(variant=variant, exits=exits, xi=0.9999),
        fitted(variant=variant, exits=exits).counting_groups(),
        ScrcPolicy.deferring(
            Infeasible("set_error", 0.1, 0.1, 3, "few", 9, on_average=True),
            target=Target("error", 0.1), variant=variant, exits=exits,  # type: ignore[arg-type]
        ),
    ):  # fmt: skip
        artifact.save(path, "scrcparams", {**policy.to_dict(), **CONTEXT})
        document, _ = artifact.load(path, "scrcparams")
        assert ScrcPolicy.from_dict(document) == policy


@pytest.mark.parametrize(("variant", "exits"), CHOICES)
def test_infeasible_targets_say_what_would_do(variant: str, exits: str) -> None:
    for n in (1, 2, 20):
        why = ScrcPolicy.fit(
            *rows(n), target=Target("error", 0.01), variant=variant, exits=exits  # type: ignore[arg-type]
        )  # fmt: skip
        assert isinstance(why, Infeasible)
        assert why.needs is None or why.needs > n
        policy = ScrcPolicy.deferring(why, target=Target("error", 0.01), exits=exits)  # type: ignore[arg-type]
        d = policy.decide(rows(50)[0])
        assert not d.accepted.any()
        assert d.prediction_set.all()
        assert policy.rule() == "defer everything"
        assert policy.sentences() == (why.message(),)
        assert (policy.threshold, policy.certificates) == (float("inf"), ())


def test_an_exit_is_never_where_the_set_has_two_classes() -> None:
    policy = fitted(exits="singletons", k=5, sets="cumulative")
    outputs, _ = rows(k=5, seed=3)
    d = policy.decide(outputs)
    second = second_entering("cumulative", outputs.probabilities)
    assert (second[d.accepted] > policy.lambda2).all()
    assert (policy.threshold, policy.score_name) == (0.0, "slack")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "softmax"}, "policy 'softmax' is not 'scrc'"),
        ({"lambda1": 0.1}, "not those of its lambda1, lambda2"),
        ({"lambda2": 1.5}, "not those of its lambda1, lambda2"),
        ({"xi": 0.7}, "not those of its lambda1, lambda2"),
        ({"delta": 0.2}, "not those of its lambda1, lambda2"),
        ({"target": {"risk": "error", "alpha": 0.2}}, "not those of its lambda1, lambda2"),
        ({"exits": "singletons"}, "not those of its lambda1, lambda2"),
        ({"certificates": []}, "not those of its lambda1, lambda2"),
        ({"variant": "u"}, "variant 'u' is unknown"),
        ({"lambda2": "x"}, "malformed"),
        ({"target": 3}, "malformed"),
        ({"score": "knn"}, "the fitted score beside it is none"),
        ({"certificates": [{}]}, "certificate must have the fields"),
    ],
)
def test_changed_files_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        ScrcPolicy.from_dict(fitted().to_dict() | change)
    document = fitted().to_dict()
    del document["lambda2"]
    with pytest.raises(ArtifactError, match="lacks 'lambda2'"):
        ScrcPolicy.from_dict(document)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"target": Target("fpr", 0.1)}, ConfigError, "bounds error or fnr"),
        ({"target": Target("fnr", 0.1)}, ConfigError, "name it with --positive"),
        ({"target": Target("fnr", 0.1), "positive": 2}, ConfigError, "outside \\[0, 2\\)"),
        ({"variant": "i"}, ConfigError, "variant 'i' is unknown"),
        ({"exits": "all"}, ConfigError, "exits 'all' is unknown"),
        ({"coverage": "all"}, ConfigError, "coverage 'all' is unknown"),
        ({"sets": "aps"}, ConfigError, "sets 'aps' is unknown"),
        ({"score": "mine"}, ConfigError, "score 'mine' is unknown"),
    ],
)
def test_settings_that_make_no_sense(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fitted(**settings)


def test_labels_must_fit() -> None:
    outputs, y = rows(50)
    with pytest.raises(DataError, match="outside"):
        ScrcPolicy.fit(outputs, y + 1, target=Target("error", 0.1))
