"""Which lines of a file are sent: `drop`, `keep` and `sample` rules; and what is taken out of those that are."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from deckwatch.config.patterns import AnyOf
from deckwatch.logs.parsing.formats import scalar_text
from deckwatch.logs.parsing.levels import normalized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deckwatch.config.log_settings import FileSettings
    from deckwatch.config.log_settings_parts import RuleSettings, SampleSettings
    from deckwatch.config.patterns import Pattern


class Sample:
    """Keeps exactly this ratio of lines, spread evenly, beginning with the first."""

    def __init__(self, ratio: float) -> None:
        exact = Fraction(str(ratio))
        self._step, self._whole = exact.numerator, exact.denominator
        self._credit = self._whole - 1  # so that the first line is kept, unless none is

    def keeps(self) -> bool:
        self._credit += self._step
        if self._credit < self._whole:
            return False
        self._credit -= self._whole
        return True


class Rules:
    """The rules of one file. A line is dropped if any `drop` rule matches, or if none of the `keep` rules does."""

    def __init__(self, settings: FileSettings) -> None:
        self._drop = _Alternatives(settings.drop) if settings.drop else None
        self._keep = _Alternatives(settings.keep) if settings.keep else None
        self._samples = _samples(settings.sample)

    def refuse(self, text: str, fields: Mapping[str, Any], level: object, level_name: str, age: int = 0) -> str | None:
        """Why this line is not sent: `drop`, `keep` or `sample`; None if it is. `age` is in nanoseconds."""
        if self._drop is not None and self._drop.match(text, fields, level, level_name, age):
            return "drop"
        if self._keep is not None and not self._keep.match(text, fields, level, level_name, age):
            return "keep"
        sample = self._samples.get(level_name)
        return "sample" if sample is not None and not sample.keeps() else None


class _Alternatives:
    """Rules of which one has to match. The expressions for one field are searched for together."""

    def __init__(self, rules: tuple[RuleSettings, ...]) -> None:
        of_fields: dict[str, list[Pattern]] = {}
        self._others = [rule for rule in rules if len(rule.patterns) != 1 or rule.older_than or rule.longer_than]
        for rule in rules:
            if rule not in self._others:
                of_fields.setdefault(rule.patterns[0][0], []).append(rule.patterns[0][1])
        of_line = of_fields.pop("line", None)
        self._line = AnyOf(of_line) if of_line else None
        self._fields = [(field, AnyOf(patterns)) for field, patterns in of_fields.items()]

    def match(self, text: str, fields: Mapping[str, Any], level: object, level_name: str, age: int) -> bool:
        """Whether one of them matches."""
        for field, patterns in self._fields:
            if _matches(field, patterns, text, fields, level, level_name):
                return True
        if self._line is not None and self._line.search(text):
            return True
        for rule in self._others:
            if rule.older_than is not None and age < rule.older_than * 10**9:
                continue
            if rule.longer_than is not None and len(text.encode("utf-8", "replace")) <= rule.longer_than:
                continue
            if all(_matches(field, pattern, text, fields, level, level_name) for field, pattern in rule.patterns):
                return True
        return False


def _matches(
    field: str, pattern: Pattern | AnyOf, text: str, fields: Mapping[str, Any], level: object, level_name: str
) -> bool:
    if field == "line":
        return pattern.search(text)
    if field == "level" and pattern.search(level_name):
        return True
    value = scalar_text(level if field == "level" else fields.get(field))
    return value is not None and pattern.search(value)


def _samples(settings: tuple[SampleSettings, ...]) -> dict[str, Sample]:
    return {normalized(sample.level): Sample(sample.ratio) for sample in settings}
