"""The labels of a file's lines: one tuple for each stream, made once and found again by the values in a line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from deckwatch.config.log_settings_parts import TENANT_LABEL
from deckwatch.logs.parsing.formats import scalar_text
from deckwatch.logs.parsing.levels import UNKNOWN, normalized
from deckwatch.logs.parsing.multiline import cut_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from deckwatch.config.log_settings import LevelNumbers
    from deckwatch.logs.entry import Labels

#: Loki's limits: labels of a stream, and bytes of a value.
MAX_LABELS: Final = 15
MAX_VALUE_BYTES: Final = 2048

#: https://grafana.com/docs/loki/latest/operations/multi-tenancy/; `|` separates tenants in queries only.
_TENANT: Final = re.compile(r"(?!\.{1,2}\Z)[a-zA-Z0-9!_.*'()-]{1,150}")
_MAX_KNOWN: Final = 1000
_MAX_KEY_LENGTH: Final = 4096

#: The labels, the cell that counts the messages of this job and level, and the level.
Stream = tuple["Labels", list[int], str]


class Streams:
    """The streams of one file.

    `static` are its fixed labels. `fields` are pairs of a label and the field it is from, where `level` as a label
    or as a field is the level under its normal name; a line that lacks a field has the fixed label of that name, if
    there is one. The label `__tenant_id__` is the tenant and none of Loki's. `fields_wanted` are the fields that `find`
    takes the values of, in this order. `numbers` says what numeric levels mean.
    """

    def __init__(
        self,
        static: Mapping[str, str],
        fields: Mapping[str, str],
        count_cell: Callable[[str, str], list[int]],
        redact: Callable[[str, str], str] | None,
        problems: list[str],
        numbers: LevelNumbers = "auto",
    ) -> None:
        self._static = {name: cut_bytes(value, MAX_VALUE_BYTES) for name, value in static.items() if value}
        self._level_labels = tuple(name for name, field in fields.items() if "level" in (name, field))
        self._value_labels = tuple(name for name in fields if name not in self._level_labels)
        self.fields_wanted = tuple(fields[name] for name in self._value_labels)
        self._count_cell = count_cell
        self._redact = redact
        self._numbers: LevelNumbers = numbers
        self._problems = problems
        self._told = False
        #: By the level alone where no other field is a label, else by a tuple of the level and the fields' values.
        self.known: dict[object, Stream] = {}

    def find(self, level: object, values: Sequence[object]) -> Stream:
        """The stream of a line with this level (as it stands there) and these values of `fields_wanted`."""
        texts = [scalar_text(value) for value in values]
        key: object = (level, *values) if self.fields_wanted else level
        # 1, 1.0 and True are the same key but not the same text; what is no scalar may not be a key at all.
        sure = all(
            value is None or type(value) is str or (type(value) is int and value > 1) for value in (level, *values)
        )
        if sure and key in self.known:
            return self.known[key]
        stream = self._make(level, texts)
        if sure and sum(len(value) for value in (level, *values) if isinstance(value, str)) <= _MAX_KEY_LENGTH:
            if len(self.known) >= _MAX_KNOWN:
                self.known.clear()
            self.known[key] = stream
        return stream

    def _make(self, found: object, texts: Sequence[str | None]) -> Stream:
        labels = dict(self._static)
        level = normalized(found, self._numbers)
        shown = (scalar_text(found) or "") if self._numbers == "unchanged" else "" if level == UNKNOWN else level
        if shown:
            labels.update((name, cut_bytes(shown, MAX_VALUE_BYTES)) for name in self._level_labels)
        tenant: str | None = None
        for name, field, text in zip(self._value_labels, self.fields_wanted, texts, strict=True):
            if name == TENANT_LABEL:
                tenant = self._checked_tenant(text)
            elif text:
                value = text
                if self._redact is not None:
                    value = self._redact(name, self._redact(field, text))
                labels[name] = cut_bytes(value, MAX_VALUE_BYTES)
                problem = f"values of the label {name} are cut: Loki takes {MAX_VALUE_BYTES} bytes"
                if labels[name] is not value and problem not in self._problems:
                    self._problems.append(problem)
        if len(labels) > MAX_LABELS:
            left_out = list(labels)[MAX_LABELS:]
            labels = {name: labels[name] for name in list(labels)[:MAX_LABELS]}
            if not self._told:
                self._told = True
                self._problems.append(f"Loki takes {MAX_LABELS} labels a stream: left out {', '.join(left_out)}")
        if tenant is not None:
            labels[TENANT_LABEL] = tenant
        return tuple(sorted(labels.items())), self._count_cell(labels.get("job", ""), level), level

    def _checked_tenant(self, text: str | None) -> str | None:
        if not text or _TENANT.fullmatch(text):
            return text or None
        problem = "a value of tenant_field is no tenant that Loki accepts: the tenant of the destination is used"
        if problem not in self._problems:
            self._problems.append(problem)
        return None
