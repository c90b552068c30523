"""Lines of a file to entries for Loki: format, level, time, labels, structured metadata and rules together."""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import orjson

from deckwatch.config.log_parsing_settings import is_wide, zone_of
from deckwatch.config.log_settings_parts import TENANT_LABEL
from deckwatch.logs.entry import Entry, shown_path
from deckwatch.logs.parsing.fields import FieldReader, Output
from deckwatch.logs.parsing.formats import Fields, Piece, cri_piece, docker_piece, metadata_text
from deckwatch.logs.parsing.levels import normalized
from deckwatch.logs.parsing.multiline import Record, RecordJoiner, cut_bytes
from deckwatch.logs.parsing.path_labels import labels_of_path
from deckwatch.logs.parsing.redaction import Redaction
from deckwatch.logs.parsing.rules import Rules
from deckwatch.logs.parsing.streams import Streams
from deckwatch.logs.parsing.timestamps import Timestamps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from deckwatch.config.log_settings import FileSettings

#: Loki's limits on the structured metadata of a line.
_MAX_METADATA: Final = 128
_MAX_METADATA_BYTES: Final = 64 * 1024

_MAX_JOBS: Final = 100
_CLOSING_BRACE: Final = ord("}")
_NO_METADATA: Final[Mapping[str, str]] = {}
_BLANK: Final = " \t\r\n\v\f"
#: Escape sequences of terminals (ECMA-48, section 5.4): colors, styles, movements of the cursor.
_ESCAPES: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_PIECES: Final = {"cri": cri_piece, "docker": docker_piece}


class Counts:
    """What parsers count. `read` is lines without the blank ones, the rest is records."""

    def __init__(self) -> None:
        self.read = 0
        self.unparsed = 0  # sent as they are
        self.dropped: Counter[str] = Counter()  # by reason: drop, keep, sample
        self.redacted = 0
        self.cut = 0
        self.unread_times = 0
        self.nuls = 0  # bytes that were skipped
        self._cells: dict[tuple[str, str], list[int]] = {}
        self._jobs: set[str] = set()

    @property
    def messages(self) -> Counter[tuple[str, str]]:
        """Records by job and level, those that rules drop included. Beyond 100 jobs it is `other`."""
        return Counter({key: cell[0] for key, cell in list(self._cells.items())})

    def message_cell(self, job: str, level: str) -> list[int]:
        """A list of one number, to be raised for each message of this job and level."""
        if job not in self._jobs and len(self._jobs) >= _MAX_JOBS:
            job = "other"
        else:
            self._jobs.add(job)
        return self._cells.setdefault((job, level), [0])


class Parser:
    """Parses the lines of one file, in their order.

    Labels are those of the path, `extra_labels`, then those of the settings, the file's name and those from fields;
    of the same name the later one counts. `wall_clock` gives Unix nanoseconds. `observe` is called with the fields,
    the level and the text of each record. `encoding` is that of the file, if it is not the one of the settings.
    `problems` has each fault of the settings or labels once.
    """

    def __init__(
        self,
        settings: FileSettings,
        path: str,
        extra_labels: Mapping[str, str],
        counts: Counts,
        wall_clock: Callable[[], int] = time.time_ns,
        observe: Callable[[Mapping[str, Any], str, str], None] | None = None,
        encoding: str = "",
    ) -> None:
        encoding = encoding or settings.encoding
        self.problems: list[str] = []
        self._counts = counts
        self._observe = observe
        self._clock = wall_clock
        self._limit = settings.max_line_bytes
        self._fields = FieldReader(settings)
        self._output = Output(settings.output) if settings.output else None
        self._decolorizes = settings.decolorize
        # Files in UTF-16 come with their bytes in this order, see tailing/line_feeds.py.
        self._encoding = "utf-16-le" if is_wide(encoding) else encoding
        self._newline = 2 if is_wide(encoding) else 1
        # A container's runtime splits lines between bytes: the parts of a character are kept until they are joined.
        self._is_split = settings.format in _PIECES and encoding == "utf-8"
        # The field of the label `level` is a level too.
        own_level = settings.label_fields.get("level", "level")
        levels = (
            settings.level_field
            if own_level in ("level", *settings.level_field)
            else (own_level, *settings.level_field)
        )
        self._level_field, *self._more_level_fields = levels or ("",)
        self._level_numbers = settings.levels
        self._time_field, *self._more_time_fields = settings.time_field or ("",)
        self._times = Timestamps(settings.time_format, wall_clock, zone_of(settings.timezone))
        self._prefers_line_time = settings.replaces_runtime_time
        self._container_times = Timestamps("", wall_clock)
        self._metadata_set = frozenset(settings.metadata_fields)
        names = [re.sub(r"^[^a-zA-Z_]|[^a-zA-Z0-9_]", "_", name) for name in settings.metadata_fields]
        # So few short texts are within Loki's limits, whatever they are.
        self._metadata_pairs = list(zip(settings.metadata_fields, names, strict=True))
        self._short = _MAX_METADATA_BYTES // 8 // max(1, len(names)) if len(names) < _MAX_METADATA - 2 else -1
        self._redaction = Redaction(settings.redact) if settings.redact else None
        self._rules = Rules(settings) if settings.drop or settings.keep or settings.sample else None
        static = {**labels_of_path(settings, path, self.problems), **extra_labels, **settings.labels}
        if settings.filename_label:
            static["filename"] = shown_path(path)
        redact = self._redaction.named if self._redaction is not None else None
        self._stream_is_metadata = "stream" not in settings.label_fields.values()
        label_fields = dict(settings.label_fields)
        if settings.tenant_field:
            label_fields[TENANT_LABEL] = settings.tenant_field
        self._streams = Streams(static, label_fields, counts.message_cell, redact, self.problems, settings.levels)
        self._piece_of = _PIECES.get(settings.format)
        self._joiner: RecordJoiner | None = None
        if settings.multiline is not None:
            many = settings.multiline
            self._joiner = RecordJoiner(self._limit, many.first_line, many.max_lines, many.max_wait)
        elif self._piece_of is not None:
            self._joiner = RecordJoiner(self._limit)
        changes_text = self._output or self._decolorizes or self._redaction
        needs_more = self._joiner or self._rules or changes_text or not self._fields.is_plain
        self._plain_json = settings.format == "json" and encoding == "utf-8" and not needs_more

    @property
    def pending_start(self) -> int | None:
        """The offset where the oldest record begins that is not complete: no position may lie beyond it."""
        return self._joiner.pending_start if self._joiner is not None else None

    def feed(self, lines: Sequence[bytes], start: int, cut: Mapping[int, int] | None = None) -> list[Entry]:
        """The entries of the lines that begin at the offset `start`, without those that wait for more lines.

        Lines come without their newline. `cut` has for lines that were too long (by index) how many bytes are
        missing. Blank lines and what rules drop give no entry. Of records that are interleaved (the streams of a
        container) all but the last have as `end` the offset where they begin.
        """
        if self._plain_json and not cut:
            return self._feed_json(lines, start)
        now = self._clock()
        entries: list[Entry] = []
        end = start
        for index, data in enumerate(lines):
            begin = end
            missing = cut.get(index, 0) if cut else 0
            end += len(data) + missing + self._newline
            entries += self._line(data, begin, end, missing, now)
        return entries

    def record(self, text: str, outer: Fields, moment: int | None, end: int) -> Entry | None:
        """The entry of a record that has fields outside its text, such as those of the journal."""
        self._counts.read += 1
        if self._decolorizes:
            text = _ESCAPES.sub("", text)
        return self._entry(text, self._read_fields(text, outer), moment, "", end, 0, self._clock())

    def flush(self, now: float | None = None, final: bool = False) -> list[Entry]:
        """What has waited too long for more lines (all of it if `final`). `now` is in Unix seconds."""
        if self._joiner is None:
            return []
        moment = self._clock()
        records = self._joiner.flush(moment / 10**9 if now is None else now, final=final)
        return self._finished(records, moment)

    def _feed_json(self, lines: Sequence[bytes], start: int) -> list[Entry]:
        """As `feed`, for JSON without rules and multi-line records: what nearly all lines are, at half the cost."""
        entries: list[Entry] = []
        append, loads, new = entries.append, orjson.loads, tuple.__new__
        level_field, more_levels = self._level_field, self._more_level_fields
        known, others = self._streams.known, self._streams.fields_wanted
        no_metadata, limit = self._metadata_set.isdisjoint, self._limit
        head = slice(20)  # slices made once: in 3.11 each one written out is an object more
        time_field, more_times, times = self._time_field, self._more_time_fields, self._times
        # Nearly all times lie in the second of the one before; a method call would cost as much as all of this.
        second, digits, tail, zone, base, scale = times.last
        observe = self._observe
        now = self._clock()
        quick, end = 0, start
        moment: int | None
        for data in lines:
            size = len(data)
            end += size + 1
            try:
                fields = loads(data)
                get = fields.get
                level = get(level_field)
                if level.__class__ is not str:
                    if level is None:
                        for name in more_levels:
                            if (level := get(name)) is not None:
                                break
                    if level.__class__ is not str:
                        level = self._level(fields)
                labels, cell, level_name = known[(level, *map(get, others)) if others else level]
                stamp = get(time_field)
                if stamp is None:
                    for name in more_times:
                        if (stamp := get(name)) is not None:
                            break
                if stamp[head] == second and stamp[tail] == zone and (fraction := stamp[digits]).isdecimal():
                    moment = base + int(fraction) * scale
                else:
                    moment = times.read(stamp)
                    second, digits, tail, zone, base, scale = times.last
                if size > limit or data[-1] != _CLOSING_BRACE:
                    moment = None
            except (ValueError, AttributeError, KeyError, TypeError):
                moment = None  # no JSON, no object, a new stream, a number as time: all of that is rare
            if moment is None:
                entries += self._line(data, end - size - 1, end, 0, now)
                continue
            cell[0] += 1
            quick += 1
            metadata = _NO_METADATA if no_metadata(fields) else self._metadata(fields)
            text = data.decode()
            if observe is not None:
                observe(fields, level_name, text)
            append(new(Entry, (labels, moment, text, metadata, end)))
        self._counts.read += quick
        return entries

    def _line(self, data: bytes, begin: int, end: int, missing: int, now: int) -> Sequence[Entry]:
        """What becomes of one line, whatever it is."""
        text = data.decode(self._encoding, "surrogateescape" if self._is_split else "replace")
        if text.startswith("\0"):
            self._counts.nuls += len(text) - len(text.lstrip("\0"))
            text = text.lstrip("\0")
        if text.endswith("\r"):
            text = text[:-1]
        if not begin:
            text = text.removeprefix("\ufeff")
        if not text.strip(_BLANK) and not missing:
            if self._joiner is None or self.pending_start is None or self._piece_of is not None:
                return ()
        else:
            self._counts.read += 1
        if self._decolorizes and self._piece_of is None:
            text = _ESCAPES.sub("", text)
        if self._joiner is None:
            entry = self._entry(text, self._read_fields(text), None, "", end, missing, now)
            return () if entry is None else (entry,)
        piece = self._piece_of(text) if self._piece_of is not None else None
        wrapped = self._piece_of is None or piece is not None
        if piece is None:
            piece = Piece(text, "", "", False)
        elif self._decolorizes:
            piece = piece._replace(text=_ESCAPES.sub("", piece.text))
        records = self._joiner.add(piece, begin, end, missing, now / 10**9, wrapped=wrapped)
        return self._finished(records, now)

    def _finished(self, records: Sequence[Record], now: int) -> list[Entry]:
        entries = []
        for record in records:
            text = record.text.rstrip("\n")
            if self._is_split and not text.isascii():
                text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            if not text.strip():
                continue  # a container wrote a blank line
            fields: Fields = {}
            if record.wrapped:
                fields = self._read_fields(text)
            else:
                self._counts.unparsed += 1
            if record.stream:
                fields.setdefault("stream", record.stream)
            moment = self._container_times.read(record.time) if record.time else None
            entry = self._entry(text, fields, moment, record.stream, record.end, record.missing, now)
            if entry is not None:
                entries.append(entry)
        return entries

    def _read_fields(self, text: str, outer: Fields | None = None) -> Fields:
        """The fields by the format. A line without them is counted: it is sent as it is."""
        fields, has_format = self._fields.read(text, outer)
        self._counts.unparsed += not has_format
        return fields

    def _entry(
        self, text: str, fields: Fields, moment: int | None, stream: str, end: int, missing: int, now: int
    ) -> Entry | None:
        """The entry of a record; None if a rule drops it. `moment` is the container runtime's time."""
        get = fields.get
        level = self._level(fields)
        labels, cell, level_name = self._streams.find(level, [get(name) for name in self._streams.fields_wanted])
        cell[0] += 1
        if self._observe is not None:
            self._observe(fields, level_name, text)
        if moment is None or self._prefers_line_time:
            moment = self._time(fields) or moment
        if self._rules is not None:
            age = 0 if moment is None else now - moment
            refused = self._rules.refuse(text, fields, level, level_name, age)
            if refused is not None:
                self._counts.dropped[refused] += 1
                return None
        metadata = self._metadata(fields)
        if self._output is not None:
            text = self._output.text(text, fields, level_name)
        if self._redaction is not None:
            clean, clean_metadata = self._redaction.text(text), self._redaction.values(metadata)
            if clean != text or clean_metadata != metadata:
                self._counts.redacted += 1
            text, metadata = clean, clean_metadata
        if stream and self._stream_is_metadata:
            metadata.setdefault("stream", stream)
        text, missing = _fitted(text, missing, self._limit)
        if missing:
            self._counts.cut += 1
            metadata["deckwatch_cut"] = str(missing)
        return Entry(labels, now if moment is None else moment, text, metadata or _NO_METADATA, end)

    def _level(self, fields: Fields) -> object:
        """The value of the first level field that is not a number; else the first value, if there is any."""
        first: object = None
        for name in (self._level_field, *self._more_level_fields):
            value = fields.get(name)
            if value is None:
                continue
            if name == "levelno" and self._level_numbers != "unchanged":  # only Python's logging names it so
                value = normalized(value, "python")
            if not isinstance(value, int | float) or isinstance(value, bool):
                return value
            first = value if first is None else first
        return first

    def _time(self, fields: Fields) -> int | None:
        unread = ""
        for name in (self._time_field, *self._more_time_fields):
            value = fields.get(name)
            if value is None:
                continue
            if (moment := self._times.read(value)) is not None:
                return moment
            unread = unread or (name if isinstance(value, str) and value else "")
        if unread:
            self._counts.unread_times += 1
            self._report(
                f"the field {unread} has times that cannot be read: such lines get the time when they are read. "
                "Check time_format and timezone"
            )
        return None

    def _metadata(self, fields: Fields) -> dict[str, str]:
        metadata: dict[str, str] = {}
        for field, name in self._metadata_pairs:
            if field in fields:
                value = fields[field]
                if value.__class__ is not str or len(value) > self._short:
                    break
                if value:
                    metadata[name] = value
        else:
            return metadata
        return self._checked_metadata(fields)

    def _checked_metadata(self, fields: Fields) -> dict[str, str]:
        metadata: dict[str, str] = {}
        room = _MAX_METADATA_BYTES - 256  # for what is added here
        for field, name in self._metadata_pairs:
            value = fields.get(field)
            text = metadata_text(value)
            if not text:
                continue
            size = len(name) + len(text.encode("utf-8", "replace"))
            if size > room or len(metadata) >= _MAX_METADATA - 2:
                self._report("Loki takes 128 entries and 64 KB of structured metadata a line: the rest is left out")
                continue
            room -= size
            metadata[name] = text
        return metadata

    def _report(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def _fitted(text: str, missing: int, limit: int) -> tuple[str, int]:
    """The text within `limit` bytes of UTF-8, and how many bytes it lacks; it says so itself where there is room."""
    kept = cut_bytes(text, limit)
    if kept is text and not missing:
        return text, 0
    size = len(text.encode("utf-8", "replace"))
    total = size + missing
    room = limit - len(f" [cut, {total} bytes missing]")
    if room < 0:
        return kept, total - len(kept.encode("utf-8", "replace"))
    kept = cut_bytes(text, room)
    missing = total - len(kept.encode("utf-8", "replace"))
    return f"{kept} [cut, {missing} bytes missing]", missing
