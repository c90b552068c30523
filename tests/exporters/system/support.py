"""Paths of the fixtures, and samples in a form that is easy to compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deckwatch.exporter import Malformed, Sample
from deckwatch.metrics.encoding import Encoder
from deckwatch_exporters.system.paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Results

FIXTURES = Path(__file__).parent.parent / "fixtures"


def host_paths(tree: Path = FIXTURES / "host") -> Paths:
    """The paths of a captured or hand-made host: `proc/`, `sys/`, `root/` and `udev/` below `tree`."""
    return Paths(proc=str(tree / "proc"), sys=str(tree / "sys"), root=str(tree / "root"), udev=str(tree / "udev"))


def exposed(samples: Results) -> list[str]:
    """The samples as the lines of an exposition, by metric in order of appearance."""
    return "".join(
        family.text for family in Encoder().families(item for item in samples if isinstance(item, Sample))
    ).splitlines()


def by_series(samples: Results) -> dict[str, float]:
    """Values by series text (`name{label="value"}`)."""
    return {sample.series.text.rstrip(): sample.value for sample in samples if isinstance(sample, Sample)}


def malformed(samples: Results) -> list[tuple[str, str]]:
    """The malformed values, as description and text."""
    return [(item.what, item.text) for item in samples if isinstance(item, Malformed)]


def only_samples(samples: Results) -> list[Sample]:
    """The samples without malformed values."""
    return [item for item in samples if isinstance(item, Sample)]
