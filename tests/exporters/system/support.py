"""Where the fixtures are, and samples in a form that is easy to compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deckwatch.metrics.encoding import Encoder
from deckwatch_exporters.system.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deckwatch.metrics.declaration import Sample

FIXTURES = Path(__file__).parent.parent / "fixtures"


def host_paths(tree: Path = FIXTURES / "host") -> Paths:
    """The paths of a captured or hand-made host: `proc/`, `sys/`, `root/` and `udev/` below `tree`."""
    return Paths(proc=str(tree / "proc"), sys=str(tree / "sys"), root=str(tree / "root"), udev=str(tree / "udev"))


def exposed(samples: Iterable[Sample]) -> list[str]:
    """The samples as the lines of an exposition, by metric in order of appearance."""
    return "".join(family.text for family in Encoder().families(samples)).splitlines()


def by_series(samples: Iterable[Sample]) -> dict[str, float]:
    """Values by series text (`name{label="value"}`)."""
    return {sample.series.text.rstrip(): sample.value for sample in samples}
