"""The operating system, from /etc/os-release (os-release(5))."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deckwatch.exporter import Sample

_LABELS = ("build_id", "id", "id_like", "image_id", "image_version", "name", "pretty_name", "variant", "variant_id",
           "version", "version_codename", "version_id")  # fmt: skip
INFO = Gauge("node_os_info", "What the operating system says of itself.", _LABELS)
VERSION = Gauge("node_os_version", "Version of the operating system, its first two parts.", ["id", "id_like", "name"])
SUPPORT_END = Gauge(
    "node_os_support_end_timestamp_seconds", "When support of the operating system ends, in Unix seconds."
)

_VERSION = re.compile(r"\d+(\.\d+)?")


class OsRelease:
    def __init__(self, paths: Paths) -> None:
        self._files = [paths.in_root("/etc/os-release"), paths.in_root("/usr/lib/os-release")]
        # It changes with an update of the system only: what was made of it is kept with the text.
        self._text = ""
        self._samples: tuple[Sample, ...] = ()

    def collect(self) -> Iterable[Sample]:
        text = self._read()
        if text != self._text or not self._samples:
            self._samples, self._text = tuple(_samples(parse_os_release(text))), text
        return self._samples

    def _read(self) -> str:
        for file in self._files:
            try:
                return read_text(file)
            except FileNotFoundError:
                continue
        raise NotAvailable


def _samples(release: dict[str, str]) -> Iterator[Sample]:
    yield INFO(1, **{label: release.get(label.upper(), "") for label in _LABELS})
    version = _VERSION.match(release.get("VERSION_ID", ""))
    if version is not None and float(version[0]) > 0:
        labels = {label: release.get(label.upper(), "") for label in ("id", "id_like", "name")}
        yield VERSION(float(version[0]), **labels)
    if "SUPPORT_END" in release:
        yield SUPPORT_END(parse_date(release["SUPPORT_END"]))


def parse_os_release(text: str) -> dict[str, str]:
    """Values by key, unquoted as a shell would. Raises ValueError."""
    values = {}
    for line in text.split("\n"):
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            try:
                values[key] = "".join(shlex.split(value))
            except ValueError as fault:
                raise ValueError(f"os-release: {line[:80]!r}: {fault}") from None
    return values


def parse_date(text: str) -> float:
    """Unix seconds of the beginning of a day (UTC), given as `2029-06-30`. Raises ValueError."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise ValueError(f"os-release: SUPPORT_END is {text[:80]!r}, not a date like 2029-06-30") from None
