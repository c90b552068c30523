"""What must not leave the machine in a log line: e-mail addresses, card numbers, credentials, own patterns.

Every built-in pattern is bounded in what it tries at one place, so that no line makes it slow. In JSON text a
letter after a backslash is part of the escape (`\\nbob@example.org`), not of the address.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deckwatch.config.log_settings import RedactSettings

# Right after an escape of JSON, or where no word and no escape goes on.
_ESCAPE: Final = r"(?<=\\[nrtbf])|(?<=\\u[0-9a-fA-F]{4})"

_EMAIL: Final = re.compile(
    rf"(?:{_ESCAPE}|(?<![\w.%+-])(?!(?<=\\)(?:[nrtbf]|u[0-9a-fA-F]{{4}})))"
    r"[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}\w{2,24}"
)

# ISO/IEC 7812: 13 to 19 digits, in the groups that are printed on cards. The first digit tells the industry: 2 to 6
# are cards that pay. Nanoseconds, which begin with 1, are not taken for one.
_CARD: Final = re.compile(
    rf"(?:{_ESCAPE}|(?<![\w]))(?<![0-9][.-])"
    r"(?:[2-6][0-9]{12,18}|[2-6][0-9]{3}([ -])(?:[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{3})?|[0-9]{6}\1[0-9]{4,5}))"
    r"(?!\w)"
)
# What every card has: cheaper to look for.
_DIGITS: Final = re.compile(r"[2-6][0-9]{3}[0-9 -][0-9]{3}")

_SECRET_NAME: Final = (
    r"(?:api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key|access[_-]?token|refresh[_-]?token|auth[_-]?token"
    r"|id[_-]?token|client[_-]?secret|session[_-]?id|authorization|password|passwd|pwd|secret|token)"
)
_SECRET_VALUE: Final = (
    r"""(?:"(?P<quoted>(?:[^"\\]|\\.)*)|'(?P<single>(?:[^'\\]|\\.)*)|\\+"(?P<escaped>[^"\\]*)"""
    r"""|(?P<bare>(?:(?:Basic|Bearer|Digest|Token)\s+)?[^\s"'\\,;&)}\]]+))"""
)
# Each with text that is in lower case in every match: looking for that costs a hundredth of the pattern.
_TOKENS: Final = (
    (
        ("key", "token", "secret", "pass", "pwd", "session", "authorization"),
        re.compile(rf"""(?i:{_SECRET_NAME}(?:\\*["'])?\s{{0,8}}[=:]\s{{0,8}}{_SECRET_VALUE})""", re.DOTALL),
    ),
    (("bearer",), re.compile(r"(?i:Bearer)\s{1,8}(?P<bare>[A-Za-z0-9._~+/-]{8,}=*)")),
    (
        ("eyj",),
        re.compile(
            rf"(?:{_ESCAPE}|(?<![A-Za-z0-9_-]))(?P<bare>eyJ[A-Za-z0-9_-]{{5,}}\.[A-Za-z0-9_-]{{5,}}(?:\.[A-Za-z0-9_-]*)?)"
        ),
    ),  # JWT
    (
        ("akia", "asia"),
        re.compile(rf"(?:{_ESCAPE}|(?<![A-Za-z0-9]))(?P<bare>(?:AKIA|ASIA)[A-Z0-9]{{16}})(?![A-Za-z0-9])"),
    ),  # AWS
    (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "xox"),  # GitHub, Slack
        re.compile(
            rf"(?:{_ESCAPE}|(?<![A-Za-z0-9]))(?P<bare>gh[pousr]_[A-Za-z0-9]{{36,}}|xox[abeoprs]-[A-Za-z0-9-]{{10,}})"
        ),
    ),
    (("://",), re.compile(r"""://[^\s/:@"']{0,256}:(?P<bare>[^\s/@"']{1,256})(?=@)""")),  # the password of a URL
)
#: The digits as text, doubled, and 9 less where that is above 9.
_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")
_BLANKS: Final = str.maketrans("", "", " -")
_GROUPS: Final = ("quoted", "single", "escaped", "bare")


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of ISO/IEC 7812 of those before it."""
    data = digits.encode()[::-1]
    total = sum(data[::2]) + sum(data[1::2].translate(_DOUBLED))
    return (total - len(data) * ord("0")) % 10 == 0


class Redaction:
    """All redaction rules of a file, in their order."""

    def __init__(self, rules: tuple[RedactSettings, ...]) -> None:
        self._steps = [step for rule in rules for step in _steps(rule)]

    def text(self, text: str) -> str:
        for step in self._steps:
            text = step(text)
        return text

    def values(self, values: Mapping[str, str]) -> dict[str, str]:
        return {name: self.text(value) for name, value in values.items()}


def _steps(rule: RedactSettings) -> list[Callable[[str], str]]:
    replacement = rule.replacement
    if rule.kind == "email":
        return [lambda text: _EMAIL.sub(lambda _: replacement, text) if "@" in text else text]
    if rule.kind == "card":
        return [lambda text: _without_cards(text, replacement)]
    if rule.kind == "token":
        return [_token_step(words, pattern, replacement) for words, pattern in _TOKENS]
    if rule.matches is None:
        return []
    replaced = rule.matches.replaced
    return [lambda text: replaced(text, replacement)]


def _token_step(words: tuple[str, ...], pattern: re.Pattern[str], replacement: str) -> Callable[[str], str]:
    def replaced(match: re.Match[str]) -> str:
        """The match with its secret replaced: what it was called stays."""
        for name in _GROUPS:
            if name in pattern.groupindex and match[name]:
                begin, end = match.span(name)
                return match.string[match.start() : begin] + replacement + match.string[end : match.end()]
        return match[0]

    def step(text: str) -> str:
        lower = text.lower()
        for word in words:
            if word in lower:
                return pattern.sub(replaced, text)
        return text

    return step


def _without_cards(text: str, replacement: str) -> str:
    if _DIGITS.search(text) is None:
        return text
    parts, done, at = [], 0, 0
    while match := _CARD.search(text, at):
        digits = match[0].translate(_BLANKS)
        if 13 <= len(digits) <= 19 and digits.isascii() and passes_luhn(digits):
            parts += [text[done : match.start()], replacement]
            done = at = match.end()
        else:
            at = match.start() + 1  # a card may begin with the group after the first
    return "".join((*parts, text[done:])) if parts else text
