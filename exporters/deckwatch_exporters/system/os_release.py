"""The operating system, from /etc/os-release (os-release(5))."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .parse_numbers import MalformedValues
from .paths import Paths, read_text

if TYPE_CHECKING:
    from deckwatch.exporter import Malformed, Sample, Samples

_LABELS = ("build_id", "id", "id_like", "image_id", "image_version", "name", "pretty_name", "variant", "variant_id",
           "version", "version_codename", "version_id")  # fmt: skip
INFO = Gauge("node_os_info", "Identity of the operating system from os-release; the value is always 1.", _LABELS)
VERSION = Gauge(
    "node_os_version", "Version of the operating system as a number (major.minor).", ["id", "id_like", "name"]
)
SUPPORT_END = Gauge(
    "node_os_support_end_timestamp_seconds", "Time at which support of the operating system ends, in Unix seconds."
)

_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class OsRelease:
    def __init__(self, paths: Paths) -> None:
        self._files = [paths.in_root("/etc/os-release"), paths.in_root("/usr/lib/os-release")]
        # The file changes only with an update of the system, so its samples are kept.
        self._text = ""
        self._samples: tuple[Sample | Malformed, ...] = ()

    def collect(self) -> Samples:
        text = self._read()
        if text != self._text or not self._samples:
            malformed = MalformedValues()
            samples = tuple(_samples(parse_os_release(text, malformed), malformed))
            self._samples, self._text = (*samples, *malformed), text
        return self._samples

    def _read(self) -> str:
        for file in self._files:
            try:
                return read_text(file)
            except FileNotFoundError:
                continue
        raise NotAvailable


def _samples(release: dict[str, str], malformed: MalformedValues) -> Samples:
    yield INFO(1, **{label: release.get(label.upper(), "") for label in _LABELS})
    version = _VERSION.match(release.get("VERSION_ID", ""))
    if version is not None and float(version[0]) > 0:
        labels = {label: release.get(label.upper(), "") for label in ("id", "id_like", "name")}
        yield VERSION(float(version[0]), **labels)
    if "SUPPORT_END" in release:
        end = parse_date(release["SUPPORT_END"])
        if end is not None:
            yield SUPPORT_END(end)
        else:
            malformed.add("os-release: SUPPORT_END", release["SUPPORT_END"])


def parse_os_release(text: str, malformed: MalformedValues) -> dict[str, str]:
    """Values by key, unquoted as by a shell. Of a repeated key, the last value counts, as in a shell."""
    values = {}
    for line in text.split("\n"):
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            try:
                values[key] = "".join(shlex.split(value))
            except ValueError:  # a quote without its counterpart
                malformed.add(f"os-release: {key}", value)
    return values


def parse_date(text: str) -> float | None:
    """Start of a day (UTC) such as `2029-06-30`, in Unix seconds; None if it is malformed."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
