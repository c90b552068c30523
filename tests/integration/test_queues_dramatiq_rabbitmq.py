"""Real Dramatiq on a real RabbitMQ: its queues, delayed messages and dead messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER
from exporters.queues.programs import run_python, worker
from exporters.queues.support import eventually, figures, queues_in

if TYPE_CHECKING:
    from pathlib import Path

    from rabbitmq_server import RabbitmqServer

_APP = """
import os, time
import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

broker = RabbitmqBroker(url={url!r}, confirm_delivery=True)
dramatiq.set_broker(broker)

@dramatiq.actor(max_retries=0, queue_name="mail")
def wait(path):
    while not os.path.exists(path):
        time.sleep(0.05)

@dramatiq.actor(max_retries=0, queue_name="mail", throws=(ValueError,))
def fail():
    raise ValueError
"""


def test_waiting_delayed_dead_and_running_messages_are_counted(rabbitmq: RabbitmqServer, tmp_path: Path) -> None:
    vhost = rabbitmq.new_vhost()
    (tmp_path / "mail.py").write_text(_APP.format(url=rabbitmq.url(vhost)))
    gate = tmp_path / "go"
    amqp_settings = {"kind": "dramatiq", "url": rabbitmq.url(vhost), "queues": ["mail"]}
    managed_settings = {"kind": "dramatiq", "url": rabbitmq.url(vhost), "management_url": rabbitmq.management_url}
    with opened(EXPORTER, amqp_settings) as amqp, opened(EXPORTER, managed_settings) as managed:
        empty = figures(amqp, "mail")
        assert (empty["length"], empty["delayed"], empty["dead"]) == (0, 0, 0)

        run_python(
            tmp_path,
            "from mail import *\n"
            f"for _ in range(5): wait.send({str(gate)!r})\n"
            "for _ in range(3): wait.send_with_options(args=('/',), delay=3_600_000)\n"
            "for _ in range(2): fail.send()",
        )
        waiting = figures(amqp, "mail")
        assert (waiting["length"], waiting["delayed"], waiting["dead"]) == (7, 3, 0)
        eventually(managed, "mail", lambda it: (it.get("length"), it.get("delayed"), it.get("dead")) == (7, 3, 0))
        assert queues_in(managed) == {"mail"}
        named = {**managed_settings, "queues": ["mail"], "discover": False}
        with opened(EXPORTER, named) as target:
            assert figures(target, "mail")["delayed"] == 3

        with worker(tmp_path, ["dramatiq", "mail", "-p", "1", "-t", "1"]) as running:
            busy = eventually(managed, "mail", lambda it: it["length"] + it["in_flight"] == 7 and it["in_flight"] > 0)
            assert busy["delayed"] == 3, "a worker that holds delayed messages does not hide them"
            assert "delayed" not in figures(amqp, "mail")
            running.kill()
        eventually(managed, "mail", lambda it: (it["length"], it["in_flight"], it["delayed"]) == (7, 0, 3))

        gate.touch()
        with worker(tmp_path, ["dramatiq", "mail", "-p", "1", "-t", "1"]):
            done = eventually(managed, "mail", lambda it: it["length"] + it["in_flight"] == 0 and it["dead"] == 2)
            assert done["oldest_message_age_seconds"] == 0
            assert figures(amqp, "mail")["dead"] == 2
