"""Standbys of a primary with the same name."""

from __future__ import annotations

from deckwatch.exporter import Sample
from deckwatch_exporters.postgres import replication


def _standby(pid: str, behind: str) -> dict[str, bytes | None]:
    return {
        "pid": pid.encode(), "application_name": b"walreceiver", "client_addr": b"10.0.0.3", "slot_name": None,
        "state": b"streaming", "current_lsn": b"4096", "behind": behind.encode(), "write_lag": b"0.5",
        "flush_lag": None, "replay_lag": None,
    }  # fmt: skip


def test_two_standbys_with_the_same_name_are_distinguished_by_process_id() -> None:
    found = list(replication._standbys("db:5432", [_standby("17", "64"), _standby("23", "128")]))
    samples = [it for it in found if isinstance(it, Sample)]

    behind = {dict(it.series.labels)["pid"]: it.value for it in samples if it.series.metric is replication.LSN_DIFF}
    assert behind == {"17": 64, "23": 128}
    assert len({it.series.text for it in samples}) == len(samples) == 6
