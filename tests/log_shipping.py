"""Shared parts of the log pipeline tests: an agent that ships quickly, its metrics, and Loki's contents."""

from __future__ import annotations

import json
import signal
import time
import uuid
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from loki import Double, Loki, assert_exactly_once
from numbered_lines import Numbered
from services import Program, agent, until

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterable, Sequence
    from pathlib import Path

#: Much shorter intervals for batches and retries than in production.
QUICK = {"batch_wait": "100ms", "timeout": "1s", "max_backoff": "300ms"}


def new_job() -> str:
    """Return a unique job label, because a real Loki keeps the entries of earlier tests."""
    return f"app-{uuid.uuid4().hex[:12]}"


def config(
    loki: Loki | str | Sequence[dict[str, Any]],
    files: Sequence[dict[str, Any]],
    *,
    own: bool = False,
    **logs: Any,
) -> str:
    """Return a config that ships `files` to one Loki (or its URL) or to several destinations."""
    if isinstance(loki, Loki):
        loki = loki.url
    destinations = [{"url": loki}] if isinstance(loki, str) else loki
    settings = {
        "loki": [QUICK | one for one in destinations],
        "files": list(files),
        "own": own,
        "poll_interval": "50ms",
        **logs,
    }
    return json.dumps({"interval": "250ms", "exporters": {}, "logs": settings})


def following(path: Path | str, job: str, **settings: Any) -> dict[str, Any]:
    """Return the config entry for the files that match a pattern."""
    return {"path": str(path), "labels": {"job": job}, **settings}


def shipper(folder: Path, text: str) -> contextlib.AbstractContextManager[Program]:
    """Run the agent with this config. Its state is in `folder / "state"`."""
    return agent(folder, text, STATE_DIRECTORY=str(folder / "state"))


class Log:
    """A log file that a test writes numbered lines to."""

    def __init__(
        self, path: Path, writer: str = "", begin: int = 0, step: int = 1_000_000, level: str = "INFO"
    ) -> None:
        self.path = path
        self.numbered = Numbered(writer or path.name, begin or time.time_ns(), step, level)
        self.written = 0

    @property
    def lines(self) -> list[str]:
        return self.numbered.lines(0, self.written)

    def write(self, count: int) -> None:
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("a") as file:
            file.writelines(f"{line}\n" for line in self.numbered.lines(self.written, self.written + count))
        self.written += count


def stored(loki: Loki, job: str) -> list[str]:
    if not isinstance(loki, Double):
        return loki.lines(f'{{job="{job}"}}')
    return [line for labels, entries in loki.stored.items() if dict(labels).get("job") == job for _, line, _ in entries]


def await_lines(loki: Loki, job: str, lines: Iterable[str], seconds: float = 60.0) -> None:
    """Wait until Loki has that number of lines, and assert that each is stored exactly once."""
    wanted = list(lines)
    deadline = time.monotonic() + seconds
    while len(stored(loki, job)) < len(wanted) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert_exactly_once(wanted, stored(loki, job))


def figures(program: Program) -> dict[str, float]:
    """Return all samples of /metrics by name and sorted labels: `name{a="b"}`."""
    found = {}
    for family in text_string_to_metric_families(program.metrics()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{text}"' for name, text in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def total(program: Program, name: str, containing: str = "") -> float:
    """Return the sum of all series with this name and this text in their labels."""
    return sum(
        value for series, value in figures(program).items() if series.partition("{")[0] == name and containing in series
    )


def await_empty_spool(program: Program) -> None:
    until(lambda: figures(program).get("deckwatch_log_spool_bytes") == 0, what="an empty spool")


def log_records(program: Program) -> list[dict[str, Any]]:
    """Return the agent's log records so far."""
    return [json.loads(line) for line in program.printed.splitlines() if line.startswith("{") and line.endswith("}")]


def await_record(program: Program, *texts: str) -> dict[str, Any]:
    """Wait for a log record with all of these texts in its message, and return it."""

    def found() -> list[dict[str, Any]]:
        return [it for it in log_records(program) if all(text in it["message"] for text in texts)]

    try:
        return until(found)[0]
    except AssertionError:
        raise AssertionError(f"nothing with {texts} in:\n{program.printed}") from None


def reload(program: Program, folder: Path, text: str, times: int = 1) -> None:
    """Reload the agent with another config and wait for it. `times` is the number of reloads including this one."""
    (folder / "deckwatch.yml").write_text(text)
    program.process.send_signal(signal.SIGHUP)
    until(lambda: sum(it.get("event") == "config.reloaded" for it in log_records(program)) >= times, what="the reload")
