"""Lines of a file to entries for Loki: format, level, time, labels, structured metadata and rules together."""

from __future__ import annotations

import re
import time
from itertools import accumulate
from operator import add
from typing import TYPE_CHECKING, Any, Final

from deckwatch.config.log_parsing_settings import is_wide, zone_of
from deckwatch.config.log_settings_parts import TENANT_LABEL
from deckwatch.logs.entry import EARLIEST_OF_COLUMNS, NO_METADATA, Columns, Entry, shown_path
from deckwatch.logs.parsing.fields import FieldReader, Output
from deckwatch.logs.parsing.formats import Fields, Piece, cri_piece, docker_piece
from deckwatch.logs.parsing.json_lines import JsonLines, Selection
from deckwatch.logs.parsing.levels import normalized
from deckwatch.logs.parsing.metadata import MetadataReader
from deckwatch.logs.parsing.multiline import Record, RecordJoiner, cut_bytes
from deckwatch.logs.parsing.path_labels import labels_of_path
from deckwatch.logs.parsing.redaction import Redaction
from deckwatch.logs.parsing.rules import Rules
from deckwatch.logs.parsing.streams import Streams
from deckwatch.logs.parsing.timestamps import Timestamps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from deckwatch.config.log_settings import FileSettings
    from deckwatch.logs.parsing.counts import Counts

_BLANK: Final = " \t\r\n\v\f"
#: Escape sequences of terminals (ECMA-48, section 5.4): colors, styles, movements of the cursor.
_ESCAPES: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_PIECES: Final = {"cri": cri_piece, "docker": docker_piece}


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
        self._level_fields, self._time_fields = levels, settings.time_field
        self._level_numbers = settings.levels
        self._times = Timestamps(settings.time_format, wall_clock, zone_of(settings.timezone))
        self._prefers_line_time = settings.replaces_runtime_time
        self._container_times = Timestamps("", wall_clock)
        self._metadata = MetadataReader(settings.metadata_fields, self._report)
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
        self._json_lines: JsonLines | None = None
        if settings.format == "json" and encoding == "utf-8" and not needs_more:
            self._json_lines = self._made_json_lines(settings)

    def _made_json_lines(self, settings: FileSettings) -> JsonLines | None:
        observed = [name for one in settings.metrics for name in (one.field, *one.match, *one.labels.values())]
        try:
            return JsonLines(
                Selection(
                    self._level_fields,
                    self._time_fields,
                    settings.metadata_fields,
                    self._streams.fields_wanted,
                    tuple(observed),
                ),
                self._streams,
                self._times,
                self._metadata,
                self._level,
                self._observe,
            )
        except ValueError:
            return None

    @property
    def pending_start(self) -> int | None:
        """The offset where the oldest record begins that is not complete: no position may lie beyond it."""
        return self._joiner.pending_start if self._joiner is not None else None

    @property
    def reads_columns(self) -> bool:
        """Whether `columns` can be used: the lines are JSON without rules and records."""
        return self._json_lines is not None

    def feed(self, lines: Sequence[bytes], start: int, cut: Mapping[int, int] | None = None) -> list[Entry]:
        """The entries of the lines that begin at the offset `start`, without those that wait for more lines.

        Lines come without their newline. `cut` has for lines that were too long (by index) how many bytes are
        missing. Blank lines and what rules drop give no entry. Of records that are interleaved (the streams of a
        container) all but the last have as `end` the offset where they begin.
        """
        if self.reads_columns and lines and not cut:
            found = self.columns(b"\n".join(lines), start)
            return found.entries(_ends(lines, start)) if isinstance(found, Columns) else found
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

    def columns(self, block: bytes, start: int) -> Columns | list[Entry]:
        """As `feed`, for lines with a newline between them, if `reads_columns`. Entries if columns cannot have all."""
        assert self._json_lines is not None
        now = self._clock()
        lines: list[bytes] = []
        ends: list[int] = []
        are_columns = True

        def read_odd(index: int) -> Sequence[Entry]:
            nonlocal are_columns, lines, ends
            lines = lines or block.split(b"\n")
            ends = ends or _ends(lines, start)
            self._counts.read -= 1  # counted there
            end = ends[index]
            found = self._line(lines[index], end - len(lines[index]) - 1, end, 0, now)
            are_columns = are_columns and all(entry.time >= EARLIEST_OF_COLUMNS for entry in found)
            return found

        columns = self._json_lines.read(block, now, self._limit, read_odd)
        self._counts.read += len(columns) + len(columns.without)
        return columns if are_columns else columns.entries(ends)

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
        metadata = self._metadata.read(fields)
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
        return Entry(labels, now if moment is None else moment, text, metadata or NO_METADATA, end)

    def _level(self, fields: Mapping[str, Any]) -> object:
        """The value of the first level field that is not a number; else the first value, if there is any."""
        first: object = None
        for name in self._level_fields:
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
        for name in self._time_fields:
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

    def _report(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def _ends(lines: Sequence[bytes], start: int) -> list[int]:
    """The offsets after lines that end with one byte."""
    return list(map(add, accumulate(map(len, lines)), range(start + 1, start + 1 + len(lines))))


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
