"""SELinux: enabled or not, and its modes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.system.parse_numbers import MalformedValues
from deckwatch_exporters.system.selinux import Selinux, parse_config

from .support import FIXTURES, by_series, host_paths


def test_the_current_and_the_configured_mode_are_exported_separately() -> None:
    assert by_series(Selinux(host_paths(FIXTURES / "hardware")).collect()) == {
        "node_selinux_enabled": 1,
        "node_selinux_current_mode": 1,
        "node_selinux_config_mode": 0,
    }


def test_a_machine_without_selinux_exports_only_that_it_is_disabled(tmp_path: Path) -> None:
    assert by_series(Selinux(host_paths(tmp_path)).collect()) == {"node_selinux_enabled": 0}


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("SELINUX=enforcing\n", 1),
        ("# SELINUX=enforcing\n  SELINUX = Permissive\n", 0),
        ("SELINUXTYPE=targeted\nSELINUX=disabled", -1),
        ("SELINUX=maybe\n", None),
        ("", None),
    ],
)
def test_the_configured_mode_is_parsed_as_selinux_does(text: str, mode: int | None) -> None:
    assert parse_config(text, MalformedValues()) == mode


@given(st.text())
def test_any_config_gives_a_mode_or_none(text: str) -> None:
    assert parse_config(text, MalformedValues()) in (1, 0, -1, None)
