"""Arguments that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from deckwatch.config import Config, ConfigError, Problem, find_config, load_config
from deckwatch.config.open_files import shortage
from deckwatch.config.state_folder import state_folder

if TYPE_CHECKING:
    from deckwatch.collection.registry import Registry


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="the config file (else $DECKWATCH_CONFIG, ./deckwatch.yml, /etc/deckwatch/)"
    )


def add_state_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state-dir", metavar="DIR", help="where the log spool is (else $STATE_DIRECTORY, ~/.local/state/deckwatch)"
    )


def load(options: argparse.Namespace, registry: Registry, *, allow_missing_secrets: bool = False) -> Config:
    """The config that `--config` or the environment names. Raises ConfigError."""
    path = find_config(Path(options.config) if options.config else None, os.environ, Path.cwd())
    return load_config(path, os.environ, registry, allow_missing_secrets=allow_missing_secrets)


def load_to_run(options: argparse.Namespace, registry: Registry, *, allow_missing_secrets: bool = False) -> Config:
    """As `load`; raises ConfigError also for a config that the limits of this process do not allow to run."""
    config = load(options, registry, allow_missing_secrets=allow_missing_secrets)
    if wrong := shortage(config):
        raise ConfigError([Problem(str(config.path or "the default config"), 0, "", wrong)])
    return config


class ConfigSource:
    """Loads the config at the start and for each reload."""

    def __init__(self, options: argparse.Namespace, registry: Registry) -> None:
        self._options = options
        self._registry = registry
        self._path: Path | None = None

    def load(self) -> Config:
        """Raises ConfigError; also when the file that was loaded before no longer exists."""
        if self._path is not None and not self._path.exists():
            raise ConfigError([Problem(str(self._path), 0, "", "the config file that was loaded no longer exists")])
        config = load_to_run(self._options, self._registry)
        self._path = config.path
        return config


def state(options: argparse.Namespace) -> Path:
    return state_folder(options.state_dir, os.environ)


def positive_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def whole_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
