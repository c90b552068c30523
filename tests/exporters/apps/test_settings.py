"""Every setting of the exporter of applications has an effect."""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from deckwatch.testing import opened
from deckwatch_exporters.apps import EXPORTER, AppsSettings
from exporters.setting_names import setting_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_ENDED = 4_000_000_000  # above the largest process id


def _write(folder: Path, kind: str, key: bytes, process: int, at: float) -> None:
    padded = key + b" " * (8 - (len(key) + 4) % 8)
    entry = struct.pack("i", len(key)) + padded + struct.pack("dd", 1.0, at)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{kind}_{process}.db").write_bytes(struct.pack("ii", 8 + len(entry), 0) + entry)


def _names(**settings: Any) -> set[str]:
    with opened(EXPORTER, settings) as target:
        collected = target.collect()
    assert collected.errors == {}
    return {name.partition("{")[0] for name in collected.values}


def _dir(folder: Path) -> None:
    _write(folder / "full/shop", "counter", b'["a", "a_total", {}, "A."]', os.getpid(), 0.0)

    assert "a_total" in _names(dir=str(folder / "full"))
    assert "a_total" not in _names(dir=str(folder / "empty"))


def _max_series(folder: Path) -> None:
    for number in range(3):
        key = b'["a%d", "a%d_total", {}, "A."]' % (number, number)
        _write(folder / "shop", "counter", key, os.getpid() if number == 0 else _ENDED + number, 0.0)

    assert "a0_total" in _names(dir=str(folder), max_series=3)
    assert "a0_total" not in _names(dir=str(folder), max_series=2)
    with pytest.raises(ValidationError):
        AppsSettings(dir=str(folder), max_series=0)


def _gauge_retention(folder: Path) -> None:
    for name, retention in (("kept", 3600), ("gone", 60)):
        _write(folder / name / "shop", "gauge_mostrecent", b'["a", "a", {}, "A."]', _ENDED, time.time() - 600)
        assert ("a" in _names(dir=str(folder / name), gauge_retention=retention)) is (name == "kept")


EFFECTS: dict[str, Callable[[Path], None]] = {
    "dir": _dir,
    "max_series": _max_series,
    "gauge_retention": _gauge_retention,
}


def test_every_setting_has_a_function_that_shows_its_effect() -> None:
    assert setting_names(AppsSettings) == EFFECTS.keys()


@pytest.mark.parametrize("setting", EFFECTS)
def test_each_setting_has_an_effect(tmp_path: Path, setting: str) -> None:
    EFFECTS[setting](tmp_path)
