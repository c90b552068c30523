"""Jobs of applications: metrics, events in the log and the progress bar."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys
import threading
from datetime import timedelta

import prometheus_client
import pytest

import deckwatch


def value(name: str, job_name: str, **labels: str) -> float | None:
    return prometheus_client.REGISTRY.get_sample_value(name, {"job_name": job_name, **labels})


def test_a_run_is_in_progress_while_its_block_runs() -> None:
    with deckwatch.job("import", total=3, every=timedelta(days=1)) as job:
        assert value("job_in_progress", "import") == 1
        assert value("job_items", "import") == 3
        assert value("job_expected_interval_seconds", "import") == 86400
        assert value("job_runs_total", "import", outcome="success") == 0
        assert value("job_items_done_total", "import", outcome="failed") == 0
        job.advance()
        job.advance(ok=4, failed=2)
        job.advance(failed=1)
    assert (job.done, job.failed) == (5, 3)
    assert value("job_in_progress", "import") == 0
    assert value("job_runs_total", "import", outcome="success") == 1
    assert value("job_items_done_total", "import", outcome="ok") == 5
    assert value("job_items_done_total", "import", outcome="failed") == 3
    started, ended = (value(f"job_last_{what}_timestamp_seconds", "import") for what in ("start", "success"))
    assert started is not None
    assert ended is not None
    assert started <= ended
    assert value("job_last_failure_timestamp_seconds", "import") is None


def test_an_exception_makes_the_run_fail_and_is_raised_again(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match="no file"), deckwatch.job("sync"):
        raise ValueError("no file")
    assert value("job_runs_total", "sync", outcome="failure") == 1
    assert value("job_in_progress", "sync") == 0
    assert value("job_last_failure_timestamp_seconds", "sync")
    started, failed = (vars(record) for record in caplog.records)
    assert (started["event"], started["job_name"]) == ("job.started", "sync")
    assert (failed["event"], failed["levelname"], failed["error"]) == ("job.failed", "ERROR", "ValueError: no file")


def test_a_run_that_exits_with_code_0_succeeds() -> None:
    for code in (0, None):
        with pytest.raises(SystemExit), deckwatch.job("exit"):
            sys.exit(code)
    with pytest.raises(SystemExit), deckwatch.job("exit"):
        sys.exit(1)
    assert value("job_runs_total", "exit", outcome="success") == 2
    assert value("job_runs_total", "exit", outcome="failure") == 1


def test_threads_share_a_job() -> None:
    with deckwatch.job("threads") as job:

        def work() -> None:
            for _ in range(1000):
                job.advance()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert job.done == value("job_items_done_total", "threads", outcome="ok") == 4000


RUN = """
import deckwatch
with deckwatch.job("export", total=2) as job:
    job.advance()
    job.advance()
"""


def test_a_terminal_shows_a_progress_bar_and_a_file_does_not() -> None:
    ours, theirs = pty.openpty()
    try:
        subprocess.run([sys.executable, "-c", RUN], stderr=theirs, check=True, timeout=60)
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)
    assert "export" in shown
    assert "2/2" in shown
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, check=True, timeout=60)
    assert done.stdout + done.stderr == b""
