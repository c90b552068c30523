"""deploy/deckwatch.service is valid and hardened, and permits what the agent needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from services import installed

from .shipped import DEPLOY

if TYPE_CHECKING:
    from pathlib import Path

UNIT = (DEPLOY / "deckwatch.service").read_text()
EXPOSURE = 2.5  # out of 10; a service without any hardening has 9.6

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def _setting(name: str) -> str:
    values: list[str] = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    return values[-1]


@needs_systemd
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / "deckwatch.service"
    copy.write_text(UNIT.replace("/opt/deckwatch/bin/deckwatch", "/bin/true"))  # the program must exist
    checked = subprocess.run(
        [installed("systemd-analyze"), "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@needs_systemd
def test_the_exposure_score_is_low(tmp_path: Path) -> None:
    copy = tmp_path / "deckwatch.service"
    copy.write_text(UNIT)
    checked = subprocess.run(
        [installed("systemd-analyze"), "security", "--offline=true", f"--threshold={EXPOSURE * 10:.0f}", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout[-2000:]
    assert float(re.findall(r"exposure level for \S+ (\d+\.\d+)", checked.stdout)[0]) <= EXPOSURE


def test_monitored_resources_stay_visible() -> None:
    assert (_setting("ProtectProc"), _setting("ProcSubset")) == ("default", "all")
    assert _setting("ProtectHome") == "read-only", "an empty /home would be taken for the host's"
    assert "ProtectClock=yes" not in UNIT, "adjtimex(2) would be refused, and node_timex_* be absent"
    assert "PrivateNetwork=yes" not in UNIT
    assert "adm" in _setting("SupplementaryGroups").split()


def test_state_and_secrets_are_where_the_agent_and_its_config_look() -> None:
    assert _setting("StateDirectory") == "deckwatch"
    config = (DEPLOY / "deckwatch.yml").read_text()
    named = set(re.findall(r"_file: /run/credentials/deckwatch\.service/(\w+)", config))
    assert named == set(re.findall(r"^LoadCredential=(\w+):", UNIT, re.MULTILINE))


def test_only_a_wrong_config_prevents_a_restart() -> None:
    # The command exits with 2 on a wrong config, and with 1 on a failure that may pass, such as a port in use.
    assert _setting("Restart") == "on-failure"
    assert _setting("RestartPreventExitStatus").split() == ["2"]
