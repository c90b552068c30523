"""Kernel and host information from uname."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deckwatch_exporters.system.paths import Paths
from deckwatch_exporters.system.uname import Uname

from .support import by_series, host_paths, only_samples


@pytest.mark.parametrize(("file", "label"), [("example.net\n", "example.net"), (None, "(none)")])
def test_uname_and_the_domain_name_are_labels(
    file: str | None, label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.uname", lambda: os.uname_result(("Linux", "harbour", "6.1.0", "#1 SMP", "x86_64")))
    if file is not None:
        (tmp_path / "proc/sys/kernel").mkdir(parents=True)
        (tmp_path / "proc/sys/kernel/domainname").write_text(file)

    assert by_series(Uname(host_paths(tmp_path)).collect()) == {
        'node_uname_info{sysname="Linux",release="6.1.0",version="#1 SMP",machine="x86_64",'
        f'nodename="harbour",domainname="{label}"}}': 1
    }


def test_the_node_name_is_that_of_this_machine() -> None:
    (sample,) = only_samples(Uname(Paths()).collect())

    assert dict(sample.series.labels)["nodename"] == os.uname().nodename
