"""What must not leave the machine in a log line: e-mail addresses, card numbers, credentials, own patterns.

Every built-in pattern is bounded in what it tries at one place, so that no line makes it slow. In JSON text a
letter after a backslash is part of the escape (`\\nbob@example.org`), not of the address.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from deckwatch.logs.parsing.credentials import ESCAPE, CpuBudget, has_secret_name, is_secret_name, without_credentials
from deckwatch.logs.parsing.json_text import is_json, rewritten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deckwatch.config.log_settings_parts import RedactSettings

_EMAIL: Final = re.compile(
    rf"(?:{ESCAPE}|(?<![\w.%+-])(?!(?<=\\)(?:[nrtbf]|u[0-9a-fA-F]{{4}})))"
    r"[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}\w{2,24}"
)

# ISO/IEC 7812: 13 to 19 digits, in the groups that are printed on cards. The first digit tells the industry: 2 to 6
# are cards that pay. Nanoseconds, which begin with 1, are not taken for one. What has to stand before the card comes
# after its first digit, since looking for that digit is a sixth of the cost.
_CARD: Final = re.compile(
    r"[2-6](?=[0-9]{3}[0-9 -][0-9]{3})"
    r"(?:(?<=\\[nrtbf].)|(?<=\\u[0-9a-fA-F]{4}.)|(?<!\w.))(?<![0-9][.-].)"
    r"(?:[0-9]{12,18}|[0-9]{3}([ -])(?:[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{3})?|[0-9]{6}\1[0-9]{4,5}))"
    r"(?!\w)"
)
_LONG: Final = 16 * 1024  # characters; below, reading the clock would cost more than it saves
# What every card has: cheaper to look for.
_DIGITS: Final = re.compile(r"[2-6][0-9]{3}[0-9 -][0-9]{3}")

#: The digits as text, doubled, and 9 less where that is above 9.
_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")
_BLANKS: Final = str.maketrans("", "", " -")


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of ISO/IEC 7812 of those before it."""
    data = digits.encode()[::-1]
    total = sum(data[::2]) + sum(data[1::2].translate(_DOUBLED))
    return (total - len(data) * ord("0")) % 10 == 0


class Redaction:
    """All redaction rules of a file, in their order."""

    def __init__(self, rules: tuple[RedactSettings, ...]) -> None:
        self._rules = [_Rule(rule) for rule in rules]
        self._secret_names = [rule for rule in self._rules if rule.hides_names]

    def text(self, text: str) -> str:
        """The text without what the rules name. What was JSON is JSON."""
        for rule in self._rules:
            text = rule.text(text)
        return text

    def named(self, name: str, value: str) -> str:
        """The value of a field without what the rules name; all of it if the field is a credential by its name."""
        if value and self._secret_names and is_secret_name(name):
            return self._secret_names[0].replacement
        return self.text(value)

    def values(self, values: Mapping[str, str]) -> dict[str, str]:
        return {name: self.named(name, value) for name, value in values.items()}


class _Rule:
    """One redaction rule."""

    def __init__(self, rule: RedactSettings) -> None:
        self.replacement = rule.replacement
        self.hides_names = rule.kind == "token"
        self._is_written_for_lines = rule.kind == "pattern"
        self._replaced = _replacing(rule)

    def text(self, text: str) -> str:
        is_long = len(text) > _LONG
        began = time.thread_time() if is_long else 0.0
        clean = self._replaced(text)
        # Escapes of JSON can hide a name or an address from the patterns: `"\u0070assword"`, `https:\/\/`.
        if not text.lstrip().startswith(("{", "[")):
            return clean
        if clean == text and "\\u00" not in text and "\\/" not in text:  # noqa: SIM102  a search is expensive
            if not (self.hides_names and has_secret_name(text)):
                return text
        if not is_json(text) or (self._is_written_for_lines and is_json(clean)):
            return clean
        # A long line has one budget for both passes.
        budget = CpuBudget(time.thread_time() - began if is_long else 0.0)
        names = is_secret_name if self.hides_names else _is_no_name
        found = rewritten(text, self.text, names, self.replacement, budget)
        # A pattern may be about names and their values: then hiding them comes first.
        return clean if self._is_written_for_lines and self._replaced(found) != found else found


def _is_no_name(_name: str) -> bool:
    return False


def _replacing(rule: RedactSettings) -> Callable[[str], str]:
    replacement = rule.replacement
    if rule.kind == "email":
        return lambda text: _EMAIL.sub(lambda _: replacement, text) if "@" in text else text
    if rule.kind == "card":
        return lambda text: _without_cards(text, replacement)
    if rule.kind == "token":
        return lambda text: without_credentials(text, replacement)
    if rule.matches is None:
        return lambda text: text
    replaced = rule.matches.replaced
    group = "secret" if "secret" in rule.matches.names else ""
    return lambda text: replaced(text, replacement, group)


def _without_cards(text: str, replacement: str) -> str:
    if _DIGITS.search(text) is None:
        return text
    parts, done, at = [], 0, 0
    budget = CpuBudget()
    while match := _CARD.search(text, at):
        digits = match[0].translate(_BLANKS)
        if 13 <= len(digits) <= 19 and digits.isascii() and passes_luhn(digits):
            parts += [text[done : match.start()], replacement]
            done = at = match.end()
        else:
            at = match.start() + 1  # a card may begin with the group after the first
        if budget.is_spent():
            return "".join((*parts, text[done:at], replacement))
    return "".join((*parts, text[done:])) if parts else text
