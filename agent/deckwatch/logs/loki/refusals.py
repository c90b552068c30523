"""Parses Loki's 400 responses: which entries of a push were rejected, and why.

Loki stores the valid entries of a push and describes the rejected ones in text. The text comes from one of two places:

- the distributor (pkg/validation/validate.go), entry by entry, with identical texts counted together:
  "2 errors like: entry for stream '{job="app"}' has timestamp too old: <RFC 3339>, oldest acceptable ...";
- the ingester (pkg/ingester/stream.go), stream by stream, with the timestamps of at most ten entries:
  "entry with timestamp <Go's text> ignored, reason: 'entry too far behind, ...',\\n... user 'fake', total ignored: 12
  out of 400 for stream: {job="app"}". A response with this text omits what the distributor rejected of the same push.
"""

from __future__ import annotations

import calendar
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deckwatch.config.patterns import Pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_SECOND = 1_000_000_000
_LABELS = r'(?P<labels>\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})'
_RFC3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"
_COUNT = r"(?:(?P<count>\d{1,9}) errors like: )?"
_MAX_PARSING = 10.0  # CPU seconds; the 8 MiB that Loki may send of a large backlog take one


def _text(reason: str, pattern: str) -> tuple[str, Pattern]:
    return reason, Pattern("(?i)" + _COUNT + pattern)


# Reasons as in Loki's `loki_discarded_samples_total`.
_DISTRIBUTOR = (
    _text(
        "greater_than_max_sample_age",
        rf"entry for stream '{_LABELS}' has timestamp too old: (?P<time>{_RFC3339}), "
        rf"oldest acceptable timestamp is: (?P<bound>{_RFC3339})",
    ),
    _text("too_far_in_future", rf"entry for stream '{_LABELS}' has timestamp too new: (?P<time>{_RFC3339})"),
    _text(
        "line_too_long",
        rf"max entry size '\d+' bytes exceeded for stream '{_LABELS}' while adding an entry with length "
        r"'(?P<length>\d{1,18})' bytes",
    ),
    _text("max_label_names_per_series", rf"entry for stream '{_LABELS}' has \d+ label names; limit"),
    _text("label_name_too_long", rf"stream '{_LABELS}' has label name too long"),
    _text("label_value_too_long", rf"stream '{_LABELS}' has label value too long"),
    _text("duplicate_label_names", rf"stream '{_LABELS}' has duplicate label name"),
    _text("disallowed_structured_metadata", rf"stream '{_LABELS}' includes structured metadata, but"),
    _text(
        "structured_metadata_too_large",
        rf"stream '{_LABELS}' has structured metadata too large: '(?P<metadata_bytes>\d{{1,18}})' bytes",
    ),
    _text(
        "structured_metadata_too_many",
        rf"stream '{_LABELS}' has too many structured metadata labels: '(?P<metadata_entries>\d{{1,18}})'",
    ),
    _text("missing_enforced_labels", rf"missing required labels '[^']*' for user '[^']*' for stream '{_LABELS}'"),
)
_WHOLE_STREAM = frozenset(
    (
        "max_label_names_per_series",
        "label_name_too_long",
        "label_value_too_long",
        "duplicate_label_names",
        "missing_enforced_labels",
    )
)
_INGESTER_ENTRY = Pattern(
    r"entry with timestamp (?P<day>\d{4}-\d\d-\d\d) (?P<hour>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{1,9}))? "
    r"(?P<zone>[+-]\d{4}) \S+(?: m=\S+)? ignored, reason: '(?P<why>[^']*)'"
)
_INGESTER_TOTAL = Pattern(r"total ignored: (?P<count>\d{1,9}) out of \d+(?: for stream: " + _LABELS + ")?")
_CUTOFF = Pattern(rf"oldest acceptable timestamp is: (?P<bound>{_RFC3339})")
_GO_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|U[0-9a-fA-F]{8}|.)")
_PAIR = Pattern(r'(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)="(?P<value>(?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Refusal:
    """Entries of a stream that were rejected for one reason, as described by the response.

    `labels` is None if the text names no stream; `count` is None if the whole stream was rejected. `times` are exact;
    `within` is a time range [from, to). All times are in Unix nanoseconds.
    """

    reason: str
    labels: Mapping[str, str] | None
    count: int | None
    within: tuple[int, int] | None = None
    times: tuple[int, ...] = ()
    length: int | None = None  # of the line, in bytes
    metadata_bytes: int | None = None
    metadata_entries: int | None = None


@dataclass(frozen=True)
class Refusals:
    """The rejected entries of a push. `final` means that everything else was stored."""

    items: tuple[Refusal, ...] = ()
    final: bool = False


@dataclass
class Picked:
    """The rejected entries of a push: the reason by `(stream index, entry index)`."""

    reasons: dict[tuple[int, int], str] = field(default_factory=dict)
    missing: int = 0  # entries that the text counts but that could not be identified


def parse(text: str) -> Refusals:
    """Parse the text of a 400 response. Return no items if the error concerns the whole push.

    A text that takes too long to parse, which Loki does not send, gives no items either.
    """
    end = time.thread_time() + _MAX_PARSING
    ingester = _ingester(text, end)
    if ingester is not None:
        return Refusals((ingester,))
    items = []
    for reason, pattern in _DISTRIBUTOR:
        for fields in pattern.matches(text):
            items.append(_refusal(reason, fields))
            if time.thread_time() > end:
                return Refusals()
    return Refusals(tuple(items), final=bool(items))


def _refusal(reason: str, fields: Mapping[str, str]) -> Refusal:
    within = None
    if fields.get("time"):
        second = _nanoseconds(fields["time"])
        within = second, second + _SECOND
    count = None if reason in _WHOLE_STREAM else int(fields.get("count", 1))
    length, size, entries = (
        int(fields[name]) if name in fields else None for name in ("length", "metadata_bytes", "metadata_entries")
    )
    return Refusal(reason, _labels(fields["labels"]), count, within, (), length, size, entries)


def _ingester(text: str, end: float) -> Refusal | None:
    total = _INGESTER_TOTAL.named_groups(text)
    if total is None:
        return None
    times, bound, reason = [], 0, "too_far_behind"
    for match in _INGESTER_ENTRY.matches(text):
        if time.thread_time() > end:
            return None
        zone = match["zone"]
        stamp = f"{match['day']}T{match['hour']}{zone[:3]}:{zone[3:]}"
        times.append(_nanoseconds(stamp) + int(match.get("fraction", "0").ljust(9, "0")))
        cutoff = _CUTOFF.named_groups(match["why"])
        if cutoff is not None:
            bound = max(bound, _nanoseconds(cutoff["bound"]) + _SECOND)
        elif "out of order" in match["why"]:
            reason = "out_of_order"
    labels = _labels(total["labels"]) if "labels" in total else None
    return Refusal(reason, labels, int(total["count"]), (0, bound) if bound else None, tuple(times))


def pick(refusals: Sequence[Refusal], streams: Sequence[tuple[Mapping[str, str], Sequence[Sequence[Any]]]]) -> Picked:
    """Identify the rejected entries `[ns, line, metadata?]` of `streams`: never more than the response counts."""
    picked = Picked()
    # For a backlog that is too old, the response lists each second. An index by second avoids a scan for each.
    seconds: dict[int, list[tuple[int, int]]] = {}
    if any(refusal.within for refusal in refusals):
        for index, (_, values) in enumerate(streams):
            for place, value in enumerate(values):
                seconds.setdefault(int(value[0]) // _SECOND, []).append((index, place))
    everything = [(index, place) for index, (_, values) in enumerate(streams) for place in range(len(values))]

    def time_of(entry: tuple[int, int]) -> int:
        return int(streams[entry[0]][1][entry[1]][0])

    for refusal in refusals:
        left = refusal.count
        among = everything
        if refusal.within is not None and refusal.within[1] - refusal.within[0] == _SECOND:
            among = seconds.get(refusal.within[0] // _SECOND, [])
        indexes = {index for index, (labels, _) in enumerate(streams) if _is_stream(refusal.labels, labels)}
        for wanted in _narrowing(refusal):
            meant = [
                entry
                for entry in among
                if entry[0] in indexes and entry not in picked.reasons and wanted(streams[entry[0]][1][entry[1]])
            ]
            if refusal.within is not None:
                # Within the second that contains the limit, Loki rejects the entries beyond it.
                meant.sort(key=time_of, reverse=refusal.reason == "too_far_in_future")
            meant = meant[:left]
            picked.reasons.update(dict.fromkeys(meant, refusal.reason))
            left = None if left is None else left - len(meant)
        picked.missing += left or 0
    return picked


def _narrowing(refusal: Refusal) -> list[Callable[[Sequence[Any]], bool]]:
    """Return predicates for the rejected entries, most specific first."""
    tests: list[Callable[[Sequence[Any]], bool]] = []
    if refusal.times:
        times = frozenset(refusal.times)
        tests.append(lambda value: int(value[0]) in times)
    if refusal.length is not None:
        tests.append(lambda value: len(value[1].encode()) == refusal.length)
    elif refusal.metadata_bytes is not None:
        tests.append(lambda value: _metadata_bytes(value) == refusal.metadata_bytes)
    elif refusal.metadata_entries is not None:
        tests.append(lambda value: len(value) > 2 and len(value[2]) == refusal.metadata_entries)
    elif refusal.reason == "disallowed_structured_metadata":
        tests.append(lambda value: len(value) > 2)
    elif refusal.within is not None:
        begin, end = refusal.within
        tests.append(lambda value: begin <= int(value[0]) < end)
    elif refusal.count is None:
        tests.append(lambda value: True)  # noqa: ARG005
    return tests


def _metadata_bytes(value: Sequence[Any]) -> int:
    pairs = value[2].items() if len(value) > 2 else ()
    return sum(len(name.encode()) + len(text.encode()) for name, text in pairs)


def _is_stream(reported: Mapping[str, str] | None, pushed: Mapping[str, str]) -> bool:
    """Return whether the labels match, ignoring those that Loki adds (`service_name`, `__stream_shard__`)."""
    if reported is None:
        return True
    own = {name: text for name, text in pushed.items() if text}  # Loki omits labels with an empty value
    added = reported.keys() - own.keys()
    return all(reported.get(name) == text for name, text in own.items()) and all(
        name == "service_name" or name.startswith("__") for name in added
    )


def _labels(text: str) -> dict[str, str]:
    return {pair["name"]: _unquoted(pair["value"]) for pair in _PAIR.matches(text)}


def _unquoted(value: str) -> str:
    """Decode text in the form of Go's %q. JSON supports most of its escapes."""
    if "\\" not in value:
        return value
    value = _GO_ESCAPE.sub(_json_escape, value)
    try:
        text: str = json.loads(f'"{value}"', strict=False)
    except ValueError:
        return value
    return text


def _json_escape(match: re.Match[str]) -> str:
    escape = match[0]
    if escape.startswith("\\x"):
        return "\\u00" + escape[2:]
    if escape.startswith("\\U"):
        number = int(escape[2:], 16)
        return chr(number) if number < 0x110000 else ""
    return {"\\a": "\\u0007", "\\v": "\\u000b"}.get(escape, escape)


def _nanoseconds(stamp: str) -> int:
    """Convert an RFC 3339 time, rounded down to whole seconds."""
    numbers = [int(stamp[begin:end]) for begin, end in ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19))]
    seconds = calendar.timegm((*numbers, 0, 0, 0))
    zone = re.search(r"([+-])(\d\d):(\d\d)$", stamp)
    if zone:
        ahead = int(zone[2]) * 3600 + int(zone[3]) * 60
        seconds -= ahead if zone[1] == "+" else -ahead
    return seconds * _SECOND
