"""The file that says which configurations a sweep tries.

::

    [grid]                                   # every combination
    learning_rate = [3e-4, 1e-3, 3e-3]
    seed = [0, 1, 2]

    [random]                                 # and each of them with each of these draws
    draws = 10
    seed = 7
    weight_decay = { low = 1e-4, high = 1.0, log = true }
    class_weights = ["none", "balanced"]

Keys are settings of `fit`; "none" is the absence of a setting that may be absent. What the file
does not mention is as the command says. Where both head and loss vary, each head is tried with the
losses it can be trained with.
"""

import itertools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np

from selectkit.config import FitConfig, build
from selectkit.errors import ConfigError
from selectkit.pipeline.recipes import (
    TRAINED,
    goes_together,
    idle,
    require_sensible,
    without_unused,
)

FIXED = ("positive", "select_by", "device", "folds", "tensorboard")
MOST = 10_000
_LARGEST = 2**53  # whole numbers up to here are exact, and differences of any two finite


@dataclass(frozen=True)
class Sweep:
    """What is tried.

    Attributes:
        configs: Distinct configurations, in the order of the file.
        varied: Settings of the file that take several values among them.
    """

    configs: tuple[FitConfig, ...]
    varied: tuple[str, ...]

    def settings(self, i: int) -> dict[str, Any]:
        """Return the settings that vary and that configuration i looks at."""
        config = self.configs[i]
        ignored = _ignored(config)
        return {name: getattr(config, name) for name in self.varied if name not in ignored}


@dataclass(frozen=True)
class Range:
    """Numbers to draw from, uniformly or in the logarithm; whole ones if both ends are."""

    low: float
    high: float
    log: bool = False

    def draw(self, rng: np.random.Generator) -> float:
        """Return a number."""
        if isinstance(self.low, int) and isinstance(self.high, int) and not self.log:
            return int(rng.integers(self.low, self.high + 1))
        if not self.log:
            return float(rng.uniform(self.low, self.high))
        value = exp(rng.uniform(log(self.low), log(self.high)))
        return round(value) if isinstance(self.low, int) and isinstance(self.high, int) else value


def read_sweep(path: Path, base: FitConfig) -> Sweep:
    """Read a file and combine it with the settings of the command.

    Settings that a configuration's head does not look at make no difference: of configurations
    that differ in nothing else, one is kept.

    Args:
        path: TOML file.
        base: Settings of the command.

    Returns:
        The sweep.

    Raises:
        ConfigError: If the file is missing or no TOML, names what cannot be varied, has a value
            that cannot be used, or asks for more than 10,000 configurations.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}; --sweep names a TOML file.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not readable TOML: {error}.") from None
    unknown = sorted(set(tables) - {"grid", "random"})
    if unknown or not tables:
        raise ConfigError(
            f"{path}: a sweep has tables [grid] and [random]"
            + (f", and no {', '.join(unknown)}." if unknown else ".")
        )
    grid = _grid(tables.get("grid", {}), path)
    draws = list(_draws(tables.get("random"), path))
    n = len(draws)
    for values in grid.values():
        n *= len(values)
    if n > MOST:
        raise ConfigError(f"{path} asks for {n:,} configurations; at most {MOST:,} are tried.")
    both = sorted(set(grid) & set(draws[0]))
    if both:
        raise ConfigError(f"{path}: {', '.join(both)} cannot be in [grid] and in [random].")
    named = {*grid, *draws[0]}
    configs = [
        _config(base, dict(zip(grid, chosen, strict=True)) | draw, path)
        for chosen in itertools.product(*grid.values())
        for draw in draws
    ]
    if {"head", "loss"} <= named:
        configs = _going_together(configs, path)
    for config in configs:
        _require_sensible(config, path)
    _require_looked_at(named, configs, path)
    distinct = tuple(dict.fromkeys(without_unused(config) for config in configs))
    varied = [f.name for f in fields(FitConfig) if f.name in named and _differs(f.name, distinct)]
    return Sweep(distinct, tuple(varied))


def _grid(table: Any, path: Path) -> dict[str, list[Any]]:
    for name, values in _settings(table, "grid", path).items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"{path}: [grid] {name} must be a list of values, at least one, got {values!r}."
            )
    return dict(table)


def _draws(table: Any, path: Path) -> Iterator[dict[str, Any]]:
    if table is None:
        yield {}
        return
    rest = dict(_settings(table, "random", path, also=("draws", "seed")))
    n, seed = rest.pop("draws", None), rest.pop("seed", 0)
    if type(n) is not int or not 1 <= n <= MOST or type(seed) is not int or seed < 0:
        raise ConfigError(
            f"{path}: [random] needs draws = 1 to {MOST:,}, and may have a seed >= 0."
        )
    sources = {name: _source(name, value, path) for name, value in rest.items()}
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield {
            name: source.draw(rng)
            if isinstance(source, Range)
            else source[int(rng.integers(len(source)))]
            for name, source in sources.items()
        }


def _source(name: str, value: Any, path: Path) -> "Range | list[Any]":
    if isinstance(value, list) and value:
        return value
    if isinstance(value, dict) and {"low", "high"} <= set(value) <= {"low", "high", "log"}:
        found = Range(**value)
        ends = (found.low, found.high)
        numbers = all(type(v) in {int, float} and abs(v) <= _LARGEST for v in ends)
        numbers = numbers and isinstance(found.log, bool)
        if numbers and found.low < found.high and (found.low > 0 or not found.log):
            return found
    raise ConfigError(
        f"{path}: [random] {name} = {value!r} must be a list of values, or {{ low = a, high = b }} "
        "with finite a < b, with log = true for a > 0 drawn in the logarithm."
    )


def _settings(table: Any, name: str, path: Path, also: tuple[str, ...] = ()) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: [{name}] must be a table.")
    known = {f.name for f in fields(FitConfig)} - set(FIXED) | set(also)
    wrong = sorted(set(table) - known)
    if wrong:
        raise ConfigError(
            f"{path}: [{name}] cannot vary {', '.join(wrong)}; it takes settings of fit but "
            f"{', '.join(FIXED)}, which are the same for all."
        )
    return table


def _config(base: FitConfig, values: Mapping[str, Any], path: Path) -> FitConfig:
    absent = {f.name for f in fields(FitConfig) if f.default is None}
    given = {k: None if v == "none" and k in absent else v for k, v in values.items()}
    return build(FitConfig, asdict(base) | given, where=str(path))


def _going_together(configs: list[FitConfig], path: Path) -> list[FitConfig]:
    """Leave out heads with losses of other heads; each head and loss must be left somewhere."""
    found = [config for config in configs if goes_together(config)]
    heads, losses = {c.head for c in found}, {c.loss for c in found if c.head in TRAINED}
    for config in configs:
        if config.head not in heads or config.loss not in losses:
            _require_sensible(config, path)
    return found


def _require_sensible(config: FitConfig, path: Path) -> None:
    if config.head not in TRAINED:
        return
    try:
        require_sensible(replace(without_unused(config), select_by=FitConfig().select_by))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _require_looked_at(named: set[str], configs: list[FitConfig], path: Path) -> None:
    """Refuse settings that would make no difference anywhere, which is a mistake."""
    never = sorted(name for name in named if all(name in _ignored(c) for c in configs))
    if never:
        kinds = ", ".join(dict.fromkeys(config.head for config in configs))
        raise ConfigError(
            f"{path}: no configuration looks at {', '.join(never)} (head: {kinds}). Add --head "
            "mlp, or what else needs it."
        )


def _ignored(config: FitConfig) -> frozenset[str]:
    return idle(config) | ({"seed"} if config.head not in TRAINED else set())


def _differs(name: str, configs: tuple[FitConfig, ...]) -> bool:
    return len({getattr(config, name) for config in configs}) > 1
