"""Typed configuration: one frozen dataclass per command, read from TOML, flags or keyword arguments."""

from selectkit.config.run_config import (
    CalibrateConfig,
    EvaluateConfig,
    ExtractConfig,
    FitConfig,
    RunConfig,
    SplitConfig,
)
from selectkit.config.toml import build, json_schema, read_toml, to_toml

__all__ = [
    "CalibrateConfig",
    "EvaluateConfig",
    "ExtractConfig",
    "FitConfig",
    "RunConfig",
    "SplitConfig",
    "build",
    "json_schema",
    "read_toml",
    "to_toml",
]
