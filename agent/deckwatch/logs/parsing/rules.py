"""Which lines of a file are sent: `drop`, `keep` and `sample` rules; and what is taken out of those that are."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from deckwatch.logs.parsing.formats import scalar_text
from deckwatch.logs.parsing.levels import normalized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deckwatch.config.log_settings import FileSettings, RuleSettings, SampleSettings


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
        self._drop = [_Rule(rule) for rule in settings.drop]
        self._keep = [_Rule(rule) for rule in settings.keep]
        self._samples = _samples(settings.sample)

    def refuse(self, text: str, fields: Mapping[str, Any], level: object, level_name: str) -> str | None:
        """Why this line is not sent: `drop`, `keep` or `sample`; None if it is."""
        for rule in self._drop:
            if rule.matches(text, fields, level, level_name):
                return "drop"
        if self._keep and not any(rule.matches(text, fields, level, level_name) for rule in self._keep):
            return "keep"
        sample = self._samples.get(level_name)
        return "sample" if sample is not None and not sample.keeps() else None


class _Rule:
    def __init__(self, rule: RuleSettings) -> None:
        self._field = rule.field
        self._search = re.compile(rule.matches).search

    def matches(self, text: str, fields: Mapping[str, Any], level: object, level_name: str) -> bool:
        if self._field == "line":
            return self._search(text) is not None
        value = scalar_text(level if self._field == "level" else fields.get(self._field))
        if self._field == "level" and self._search(level_name) is not None:
            return True
        return value is not None and self._search(value) is not None


def _samples(settings: tuple[SampleSettings, ...]) -> dict[str, Sample]:
    return {normalized(sample.level): Sample(sample.ratio) for sample in settings}
