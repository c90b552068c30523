"""The config: YAML to frozen, validated settings; every error at once, each with its place."""

from .exporters import RegistryError
from .load import find_config, load_config
from .model import AgentSettings, Config, Difference, TargetConfig, changed, split_listen
from .problems import ConfigError, Problem
from .schema import json_schema
from .values import Duration, DurationOrZero, Secret, Settings, Size, parse_duration, parse_size

__all__ = [
    "AgentSettings",
    "Config",
    "ConfigError",
    "Difference",
    "Duration",
    "DurationOrZero",
    "Problem",
    "RegistryError",
    "Secret",
    "Settings",
    "Size",
    "TargetConfig",
    "changed",
    "find_config",
    "json_schema",
    "load_config",
    "parse_duration",
    "parse_size",
    "split_listen",
]
