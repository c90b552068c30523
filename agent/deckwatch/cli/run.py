"""`deckwatch run`: the agent's life, from its config to its last answer."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import ipaddress
import logging
import signal
import sys
from typing import TYPE_CHECKING

from deckwatch import __version__
from deckwatch.agent import Agent, quicken_thread_switches
from deckwatch.cli import arguments
from deckwatch.collection.registry import Registry
from deckwatch.http.app import create_app
from deckwatch.http.listener import ListenError, address_of, bind, serve
from deckwatch.http.rejections import Rejections
from deckwatch.http.request_target import HostNames
from deckwatch.http.web_config import WebConfigFile
from deckwatch.http.web_metrics import WebConfigCollector
from deckwatch.logs import agent_log as log

if TYPE_CHECKING:
    import argparse
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from deckwatch.agent import AlertSource
    from deckwatch.config import Config
    from deckwatch.exporter import Collector


def configure(parser: argparse.ArgumentParser) -> None:
    arguments.add_config(parser)
    parser.add_argument("--listen", metavar="HOST:PORT", help="override `listen` of the config")
    arguments.add_state_dir(parser)
    parser.set_defaults(command=_run, may_leave_threads=True)


def _run(options: argparse.Namespace) -> int:
    registry = Registry.installed()
    source = arguments.ConfigSource(options, registry)
    return run(source.load, registry, options.listen, arguments.state(options))


def run(load: Callable[[], Config], registry: Registry, listen: str | None, state: Path) -> int:
    """Collect and serve until SIGTERM or SIGINT. Raises ConfigError when `load()` does."""
    config = load()
    web = WebConfigFile(config.settings.web_config)
    try:
        listening = bind(listen or config.settings.listen)
    except ValueError as wrong:
        print(f"--listen: expected {wrong}", file=sys.stderr)  # noqa: T201  this is the command line
        return 2
    except ListenError as failure:
        print(failure, file=sys.stderr)  # noqa: T201  this is the command line
        return 1  # the port may be free, or the address configured, when a supervisor tries again
    log.configure()
    quicken_thread_switches()
    rejections = Rejections()
    own: dict[str, Collector] = {"http": rejections}
    if web.is_configured:
        own["web"] = WebConfigCollector(web)
    agent = Agent(config, registry, load, state, own, _alerts(config.settings.prometheus_url))
    _use_one_heap()
    _spare_the_collector()
    agent.start()
    try:
        asyncio.run(_serve(agent, web, listening, rejections))
    finally:
        agent.stop()
    return 0


def _alerts(prometheus_url: str | None) -> AlertSource | None:
    if prometheus_url is None:
        return None
    from deckwatch.pack.firing_alerts import FiringAlerts  # loaded only if it is used

    return FiringAlerts(prometheus_url)


_M_ARENA_MAX = -8  # mallopt(3)


def _use_one_heap() -> None:
    """Let all threads allocate from one heap of glibc.

    With a heap for each, a fifth of the memory of an agent with many targets is free space in some of them. The threads
    do not wait for each other in it, since the interpreter executes one at a time. Other C libraries have no such call.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_ARENA_MAX, 1)


def _spare_the_collector() -> None:
    """What is loaded stays: no search for garbage has to go through it. Samples and log lines are no cycles either."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _serve(agent: Agent, web: WebConfigFile, listening: socket.socket, rejections: Rejections) -> None:
    logger = logging.getLogger("deckwatch")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    reloads: set[asyncio.Future[str | None]] = set()

    def reload() -> None:
        pending = loop.run_in_executor(None, agent.reload)
        reloads.add(pending)
        pending.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    url = f"{'https' if web.uses_tls else 'http'}://{address_of(listening)}"
    logger.info("Deckwatch %s answers at %s/ (metrics: %s/metrics)", __version__, url, url, extra={"event": "started"})
    # On a wildcard address, only clients know how to reach the agent.
    address = ipaddress.ip_address(listening.getsockname()[0].partition("%")[0])
    advertise = "" if address.is_unspecified else address_of(listening)
    settings = agent.config.settings
    hosts = HostNames(settings.allowed_hosts) if address.is_loopback else None
    app = create_app(agent, settings.enable_lifecycle, advertise, web.problems, hosts, rejections=rejections)
    await serve(app, listening, web, stop, rejections=rejections)
    logger.info("stopped", extra={"event": "stopped"})
