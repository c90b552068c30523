"""Arguments that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from deckwatch.config import Config, find_config, load_config
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


def load(options: argparse.Namespace, registry: Registry) -> Config:
    """The config that `--config` or the environment names. Raises ConfigError."""
    path = find_config(Path(options.config) if options.config else None, os.environ, Path.cwd())
    return load_config(path, os.environ, registry)


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
