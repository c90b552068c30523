"""Applications of six kinds and one agent: the short form of tests/bench/fleet.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sdk.fleet import run_fleet
from sdk.web_apps import IS_INSTALLED

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(not IS_INSTALLED, reason="the web frameworks are not installed: make services")
def test_recycled_and_killed_processes_of_all_kinds_lose_no_count_and_leave_no_file(tmp_path: Path) -> None:
    run_fleet(tmp_path, requests=600, tasks=120, batch=40)
