"""Every setting of the host has an effect: changed from its default, it changes what a collector yields."""

from __future__ import annotations

import logging
import shutil
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from deckwatch.exporter import Context, NotAvailable, Sample
from deckwatch_exporters.system import SUBSYSTEMS, SystemSettings
from exporters.setting_names import setting_names, shown_by_test

from .support import FIXTURES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Change(NamedTuple):
    """Settings that change what a collector yields, beside `given` ones."""

    collector: str
    settings: dict[str, Any]
    given: Mapping[str, Any] = MappingProxyType({})


_PROCESSES = {"name": "worker", "match": "celery"}


def _processes(**changed: Any) -> Change:
    return Change("watched", {"processes": [{**_PROCESSES, **changed}]}, {"processes": [_PROCESSES]})


#: The change that shows the effect of each setting, or the test that does.
EFFECTS: dict[str, Change | str] = {
    "procfs": Change("meminfo", {"procfs": "/nonexistent"}),
    "sysfs": Change("hwmon", {"sysfs": "/nonexistent"}),
    "rootfs": Change("os", {"rootfs": "/nonexistent"}),
    "udev": Change("diskstats", {"udev": "/nonexistent"}),
    "cpu.guest": Change("cpu", {"cpu": {"guest": False}}),
    "cpu.info": Change("cpu", {"cpu": {"info": True}}),
    "cpu.flags_include": Change("cpu", {"cpu": {"info": True, "flags_include": "."}}, {"cpu": {"info": True}}),
    "cpu.bugs_include": Change("cpu", {"cpu": {"info": True, "bugs_include": "."}}, {"cpu": {"info": True}}),
    "interrupts.include": Change("interrupts", {"interrupts": {"include": "ttyS0"}}),
    "interrupts.exclude": Change("interrupts", {"interrupts": {"exclude": "ttyS0"}}),
    "interrupts.zeros": Change("interrupts", {"interrupts": {"zeros": False}}),
    "stat.softirq": Change("stat", {"stat": {"softirq": True}}),
    "vmstat.fields": Change("vmstat", {"vmstat": {"fields": "^nr_free"}}),
    "filesystem.mount_points_exclude": "system/test_filesystem.py::test_the_mount_points_to_exclude_are_configurable",
    "filesystem.fs_types_exclude": "system/test_filesystem.py::test_exclusions_are_configurable",
    "filesystem.timeout": "system/test_filesystem_hangs.py::test_many_hanging_mounts_share_one_timeout",
    "disk.device_exclude": Change("diskstats", {"disk": {"device_exclude": "^dm"}}),
    "network.device_exclude": Change("netdev", {"network": {"device_exclude": "^eth0"}}),
    "network.device_include": Change("netdev", {"network": {"device_include": "^eth0"}}),
    "netstat.fields": Change("netstat", {"netstat": {"fields": "^Tcp_"}}),
    "systemd.unit_include": "system/test_systemd.py::test_the_units_to_export_are_configurable",
    "systemd.unit_exclude": "system/test_systemd.py::test_the_units_to_export_are_configurable",
    "systemd.timeout": "system/test_systemd.py::test_an_unresponsive_systemd_is_an_error_within_the_timeout",
    "textfile.directories": Change("textfile", {"textfile": {"directories": ["/nonexistent"]}}),
    "processes.name": _processes(name="other"),
    "processes.match": _processes(match="no such command"),
    "processes.pss": _processes(pss=True),
    "processes.expected": _processes(expected="always"),
}


def test_every_setting_has_a_change_that_shows_its_effect() -> None:
    assert setting_names(SystemSettings) == EFFECTS.keys()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The captured host, with the CPUs of another one."""
    found = shutil.copytree(FIXTURES / "host", tmp_path_factory.mktemp("settings") / "host", symlinks=True)
    shutil.copy(FIXTURES / "numa/proc/cpuinfo", found / "proc/cpuinfo")
    return found


def _series(tree: Path, name: str, settings: Mapping[str, Any]) -> set[str]:
    paths = {"procfs": tree / "proc", "sysfs": tree / "sys", "rootfs": tree / "root", "udev": tree / "udev"}
    config = SystemSettings.model_validate({**{key: str(path) for key, path in paths.items()}, **settings})
    collector = SUBSYSTEMS[name].make(config.paths, config, Context(logger=logging.getLogger("test")))
    try:
        return {it.series.text for it in collector.collect() if isinstance(it, Sample)}
    except (NotAvailable, FileNotFoundError):
        return set()


@pytest.mark.parametrize("setting", EFFECTS)
def test_each_setting_has_an_effect(tree: Path, setting: str) -> None:
    change = EFFECTS[setting]
    if isinstance(change, str):
        assert shown_by_test(change)
        return

    before = _series(tree, change.collector, change.given)

    assert before
    assert _series(tree, change.collector, change.settings) != before
