import json
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from selectkit import config, schemas
from selectkit.errors import ConfigError


def test_defaults_survive_the_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(config.to_toml(asdict(config.RunConfig())))
    assert config.read_toml(file) == config.RunConfig()


def test_all_mistakes_come_in_one_message(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('colour = 1\n[fit]\nhaed = "mlp"\nepochs = 0\n[calibrate]\ndelta = 2\n')
    with pytest.raises(ConfigError) as caught:
        config.read_toml(file)
    text = str(caught.value)
    for part in ("unknown key colour", "unknown key fit.haed", "fit.epochs = 0", "calibrate.delta"):
        assert part in text
    assert str(file) in text


def test_numbers_are_finite_and_no_switches() -> None:
    for settings, part in (
        (
            {"fit": {"learning_rate": float("inf")}},
            "fit.learning_rate = inf: Input should be",
        ),
        ({"fit": {"coverage_penalty": float("nan")}}, "fit.coverage_penalty = nan"),
        ({"fit": {"hidden": True}}, "fit.hidden = True: Input should be a value, not true or fal"),
    ):
        with pytest.raises(ConfigError, match=part):
            config.build(config.RunConfig, settings)
    assert config.build(config.RunConfig, {"fit": {"tensorboard": True}}).fit.tensorboard


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.toml is missing. `selectkit config init`"):
        config.read_toml(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text("fit = [")
    with pytest.raises(ConfigError, match=r"b\.toml is not readable TOML"):
        config.read_toml(tmp_path / "b.toml")


def test_a_choice_lists_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="head = 'forest': Input should be 'linear', 'mlp'"):
        config.build(config.FitConfig, {"head": "forest"})


def test_the_committed_schema_is_the_generated_one() -> None:
    folder = Path(schemas.__file__).parent
    committed = json.loads((folder / "config.v1.schema.json").read_text())
    assert committed == json.loads(json.dumps(config.json_schema()))


def test_every_flag_is_a_setting_and_every_setting_a_flag() -> None:
    import typer.main

    from selectkit.cli.main import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    common = {
        "source",
        "store",
        "run",
        "out",
        "config",
        "json",
        "scores",
        "sweep",
        "sort",
        "compare",
        "plot",
    }
    for cls in (config.ExtractConfig, config.FitConfig, config.CalibrateConfig,
                config.CompareConfig, config.EvaluateConfig, config.PlanConfig):  # fmt: skip
        verb = cls.__name__.removesuffix("Config").lower()
        flags = {p.name for p in commands[verb].params} - common
        assert flags == {f.name for f in fields(cls)}
    policies = {p.name for p in commands["bench"].commands["policies"].params} - common
    assert policies == {f.name for f in fields(config.BenchConfig)}
