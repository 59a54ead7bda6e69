"""What a sweep tries."""

from pathlib import Path

import pytest

from selectkit.config import FitConfig
from selectkit.errors import ConfigError
from selectkit.pipeline.sweep_file import Sweep, read_sweep

MLP = FitConfig(head="mlp")


def _read(tmp_path: Path, text: str, base: FitConfig = MLP) -> Sweep:
    file = tmp_path / "sweep.toml"
    file.write_text(text)
    return read_sweep(file, base)


def test_a_grid_is_every_combination_in_order(tmp_path: Path) -> None:
    plan = _read(tmp_path, "[grid]\nlearning_rate = [0.1, 0.2]\nseed = [0, 1, 2]\nclip = [1.0]\n")
    assert [(c.learning_rate, c.seed) for c in plan.configs] == [
        (0.1, 0), (0.1, 1), (0.1, 2), (0.2, 0), (0.2, 1), (0.2, 2),
    ]  # fmt: skip
    assert {c.clip for c in plan.configs} == {1.0}
    assert plan.varied == ("seed", "learning_rate")


def test_draws_are_crossed_with_the_grid_and_repeat(tmp_path: Path) -> None:
    text = (
        "[grid]\nseed = [0, 1]\n[random]\ndraws = 20\nseed = 3\nhidden = { low = 8, high = 64 }\n"
        "learning_rate = { low = 1e-4, high = 1e-1, log = true }\noptimizer = ['sgd', 'adamw']\n"
    )
    plan = _read(tmp_path, text)
    assert plan == _read(tmp_path, text)
    assert plan != _read(tmp_path, text.replace("seed = 3", "seed = 4"))
    assert len(plan.configs) == 40
    assert [c.learning_rate for c in plan.configs[:20]] == [
        c.learning_rate for c in plan.configs[20:]
    ]
    assert all(1e-4 <= c.learning_rate <= 1e-1 for c in plan.configs)
    assert sum(c.learning_rate < 3e-3 for c in plan.configs[:20]) in range(4, 17)
    assert all(type(c.hidden) is int and 8 <= c.hidden <= 64 for c in plan.configs)
    assert {c.optimizer for c in plan.configs} == {"sgd", "adamw"}


def test_none_is_the_absence_of_a_setting(tmp_path: Path) -> None:
    plan = _read(
        tmp_path, "[grid]\nsam_rho = ['none', 0.1]\naveraging = ['none']\nclass_weights = ['none']"
    )
    assert [c.sam_rho for c in plan.configs] == [None, 0.1]
    assert {c.averaging for c in plan.configs} == {"none"}
    assert {c.class_weights for c in plan.configs} == {None}


def test_heads_are_tried_with_their_own_losses(tmp_path: Path) -> None:
    heads = "[grid]\nhead = ['linear', 'mlp', 'three', 'abstain']\n"
    plan = _read(tmp_path, heads + "loss = ['none', 'focal', 'gamblers']\n")
    assert [(c.head, c.loss) for c in plan.configs] == [
        ("linear", None), ("mlp", None), ("mlp", "focal"), ("three", None),
        ("abstain", None), ("abstain", "gamblers"),
    ]  # fmt: skip
    for text, words in (
        (heads + "loss = ['focal', 'gamblers']", "head three is trained with selective_net, not"),
        ("[grid]\nhead = ['mlp', 'linear']\nloss = ['gamblers']", "sweep.toml: head mlp is train"),
        ("[grid]\nhead = ['mlp', 'linear']\nloss = ['focal', 'gamblers']", "use --head abstain"),
        ("[grid]\nhead = ['knn', 'linear']\nloss = ['focal']", "no configuration looks at loss"),
        ("[grid]\nloss = ['focal', 'gamblers']", "use --head abstain for that"),
    ):
        with pytest.raises(ConfigError, match=words):
            _read(tmp_path, text)


def test_settings_that_a_head_does_not_look_at_are_not_tried_twice(tmp_path: Path) -> None:
    plan = _read(tmp_path, "[grid]\nhead = ['linear', 'mlp']\nlearning_rate = [0.1, 0.2]\n")
    assert [(c.head, c.learning_rate) for c in plan.configs] == [
        ("linear", 1e-3), ("mlp", 0.1), ("mlp", 0.2),
    ]  # fmt: skip
    assert plan.settings(0) == {"head": "linear"}
    assert plan.settings(1) == {"head": "mlp", "learning_rate": 0.1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed = [1]", r"a sweep has tables \[grid\] and \[random\], and no seed"),
        ("", r"a sweep has tables \[grid\] and \[random\]\."),
        ("[grid]\nlerning_rate = [1]", "cannot vary lerning_rate"),
        ("[grid]\nselect_by = ['nll']", "cannot vary select_by"),
        ("[grid]\nseed = 1", r"\[grid\] seed must be a list of values, at least one, got 1"),
        ("[grid]\nseed = []", r"\[grid\] seed must be a list of values"),
        ("[grid]\nlearning_rate = [-1.0]", "learning_rate = -1.0: Input should be greater than 0"),
        ("[grid]\nhead = ['forest']", "head = 'forest'"),
        ("[grid]\nhead = ['three']\nloss = ['focal']", "trained with selective_net, not focal"),
        ("[random]\nseed = 1", r"\[random\] needs draws = 1 to 10,000"),
        ("[random]\ndraws = 0", r"\[random\] needs draws = 1 to 10,000"),
        ("[random]\ndraws = 2\nhidden = { low = 9, high = 8 }", "with finite a < b"),
        ("[random]\ndraws = 2\nhidden = { low = 'a', high = 8 }", "with finite a < b"),
        ("[random]\ndraws = 2\nhidden = 8", "must be a list of values"),
        ("[random]\ndraws = true", r"\[random\] needs draws = 1 to 10,000"),
        ("[random]\ndraws = 2\nclip = { low = 1, high = inf }", "with finite a < b"),
        ("[random]\ndraws = 2\nclip = { low = -1e308, high = 1e308 }", "with finite a < b"),
        ("[random]\ndraws = 2\nseed = 1\nhidden = { low = 1, high = 99999999999999999999 }", "< b"),
        ("[random]\ndraws = 2\nclip = { low = 1, high = 2, log = 'no' }", "with finite a < b"),
        ("[grid]\nlearning_rate = [inf]", "learning_rate = inf: Input should be a finite number"),
        (
            "[random]\ndraws = 2\nwarm_up = { low = 0, high = 1, log = true }",
            "log = true for a > 0",
        ),
        ("[grid]\nseed = [1]\n[random]\ndraws = 2\nclip = [1.0]\nhidden = [1]\nepochs = [2]", None),
        ("[grid]\nclip = [1.0]\n[random]\ndraws = 2\nclip = [1.0]", "clip cannot be in"),
        ("[grid]\ngamma = [1.0]", r"no configuration looks at gamma \(head: mlp\)"),
        ("[random]\ndraws = 10000\n[grid]\nseed = [0, 1]", "asks for 20,000 configurations"),
        ("[grid\n", "not readable TOML"),
    ],
)
def test_what_a_sweep_cannot_be(tmp_path: Path, text: str, words: str | None) -> None:
    if words is None:
        assert len(_read(tmp_path, text).configs) == 1
        return
    with pytest.raises(ConfigError, match=words):
        _read(tmp_path, text)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file .*none\.toml"):
        read_sweep(tmp_path / "none.toml", MLP)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_sweep(tmp_path, MLP)
