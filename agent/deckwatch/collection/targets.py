"""Targets of the config, opened: their collectors, and which of these share a job."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

from deckwatch.exporter import Context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deckwatch.config import TargetConfig
    from deckwatch.exporter import Exporter, Probe


def open_target(exporter: Exporter, target: TargetConfig, thresholds: Mapping[str, float]) -> list[Probe]:
    """The probes of one target, each bearing its name."""
    context = Context(target.name, thresholds, logging.getLogger(f"deckwatch.{target.exporter}"))
    return [dataclasses.replace(probe, target=target.name) for probe in exporter.open(target.settings, context)]
