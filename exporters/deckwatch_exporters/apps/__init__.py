"""Metrics of applications: the files that prometheus_client writes in multi-process mode, summed over processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from deckwatch.exporter import Duration, Exporter, Finding, KeyFigure, Settings, Target

from .collector import AppsCollector
from .folder import services_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Context


class AppsSettings(Settings):
    """`dir` holds a folder for each service: `DECKWATCH_APP_DIR`, or the parent of PROMETHEUS_MULTIPROC_DIR.

    `gauge_retention` is how long gauges of ended processes are kept, for modes that keep them.
    """

    dir: str
    max_series: int = Field(default=10_000, ge=1)
    gauge_retention: Duration = 35 * 86400.0


def open_folder(settings: AppsSettings, context: Context) -> Target:
    del context
    collector = AppsCollector(settings.dir, settings.max_series, settings.gauge_retention)
    return Target({"apps": collector}, collector.close)


def check_folder(settings: AppsSettings) -> Iterator[Finding]:
    """The services that have written files."""
    services = services_in(settings.dir)
    if services:
        yield Finding("ok", f"services: {', '.join(services)}")
    else:
        yield Finding(
            "missing",
            f"no application has written to {settings.dir}",
            f"start it with DECKWATCH_APP_DIR={settings.dir} and DECKWATCH_SERVICE=its-name",
        )


EXPORTER = Exporter(
    name="apps",
    settings=AppsSettings,
    open=open_folder,
    key_figures=(
        KeyFigure("Processes", "deckwatch_apps_processes"),
        KeyFigure("Series", "deckwatch_apps_series"),
    ),
    check=check_folder,
)
