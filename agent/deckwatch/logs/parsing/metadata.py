"""The structured metadata of lines: some of their fields as text, within Loki's limits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from deckwatch.logs.parsing.formats import metadata_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Loki's limits on the structured metadata of a line.
_MAX_ENTRIES: Final = 128
_MAX_BYTES: Final = 64 * 1024


class MetadataReader:
    """Reads the structured metadata of lines. `report` is called with each problem."""

    def __init__(self, fields: Sequence[str], report: Callable[[str], None]) -> None:
        self._report = report
        names = [re.sub(r"^[^a-zA-Z_]|[^a-zA-Z0-9_]", "_", name) for name in fields]
        self._pairs = list(zip(fields, names, strict=True))
        # So few short texts are within Loki's limits, whatever they are.
        self._short = _MAX_BYTES // 8 // max(1, len(names)) if len(names) < _MAX_ENTRIES - 2 else -1

    def read(self, fields: Mapping[str, Any]) -> dict[str, str]:
        metadata: dict[str, str] = {}
        for field, name in self._pairs:
            if field in fields:
                value = fields[field]
                if value.__class__ is not str or len(value) > self._short:
                    break
                if value:
                    metadata[name] = value
        else:
            return metadata
        return self._checked(fields)

    def _checked(self, fields: Mapping[str, Any]) -> dict[str, str]:
        metadata: dict[str, str] = {}
        room = _MAX_BYTES - 256  # for what the parser adds
        for field, name in self._pairs:
            text = metadata_text(fields.get(field))
            if not text:
                continue
            size = len(name) + len(text.encode("utf-8", "replace"))
            if size > room or len(metadata) >= _MAX_ENTRIES - 2:
                self._report("Loki takes 128 entries and 64 KB of structured metadata a line: the rest is left out")
                continue
            room -= size
            metadata[name] = text
        return metadata
