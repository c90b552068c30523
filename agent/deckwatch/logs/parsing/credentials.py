"""Finds credentials in text: values beside names such as `password`, and tokens that are known by their form.

Every pattern is bounded in what it tries at one place, so that no line makes it slow. In JSON text a letter after a
backslash is part of the escape (`\\nghp_...`), not of the token.
"""

from __future__ import annotations

import re
import time
from typing import Final

#: Right after an escape of JSON, or where no word and no escape goes on.
ESCAPE: Final = r"(?<=\\[nrtbf])|(?<=\\u[0-9a-fA-F]{4})"

_SECRET_NAME: Final = (
    r"(?:(?:api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key|passwd|pwd|secret|password|passphrase|cookie"
    r"|credential)s?|access[_-]?token|refresh[_-]?token|auth[_-]?token|id[_-]?token|client[_-]?secret|session[_-]?id"
    r"|authorization|token)(?:[_-]?(?:hash|confirm(?:ation)?)|\d{1,2})?"
)
# Consoles color names and values: ECMA-48, section 5.4.
_GAP: Final = r"(?:\s|\x1b\[[0-9;]{0,16}m){0,8}"
_SCHEME: Final = r"(?:Basic|Bearer|Digest|Token|Negotiate|NTLM|Api-?Key|AWS4-HMAC-SHA256)"
# Within a value, punctuation goes on to the next blank unless it ends a list, a query parameter or a sentence.
_BARE: Final = (
    rf"(?:{_SCHEME}{_GAP})?"
    r"(?:[^\s\"'\\,;&)}\]\[({\x1b]|\\(?!\\{0,8}[\"'nrt])|[\"'](?=\w)"
    r"|[,;&)}\]\[({](?![,;)}\]]{0,8}(?:[\s\"'\\\x1b]|\Z)|[\w.-]{1,32}=))+"
)
_SECRET_VALUE: Final = (
    r"""(?:b?"(?P<quoted>(?:[^"\\]|\\.)*)|b?'(?P<single>(?:[^'\\]|\\.)*)"""
    r"""|(?P<escape>\\{1,15})"(?P<escaped>(?:[^"\\]|\\{1,15}[^"\\]|(?!(?P=escape)")\\{1,15}")*)"""
    rf"""|(?P<open>[\[({{])|(?P<bare>{_BARE}))"""
)
_NAMED: Final = re.compile(
    rf"""(?i:{_SECRET_NAME}(?:(?P<pair>["']\s{{0,8}},\s{{0,8}})"""
    rf"""|(?:\\{{0,15}}["'])?{_GAP}(?:=>|:=|[=:]|%3d|%3a){_GAP}){_SECRET_VALUE})""",
    re.DOTALL,
)
# Each with text that is in lower case in every match: looking for that costs a hundredth of the pattern.
_TOKENS: Final = (
    (
        ("key", "token", "secret", "pass", "pwd", "session", "authorization", "cookie", "credential"),
        _NAMED,
    ),
    (("bearer",), re.compile(r"(?i:Bearer)\s{1,8}(?P<bare>[A-Za-z0-9._~+/-]{8,}=*)")),
    (
        ("eyj",),
        re.compile(
            rf"(?:{ESCAPE}|(?<![A-Za-z0-9_-]))(?P<bare>eyJ[A-Za-z0-9_-]{{5,}}\.[A-Za-z0-9_-]{{5,}}(?:\.[A-Za-z0-9_-]*)?)"
        ),
    ),  # JWT
    (
        ("akia", "asia"),
        re.compile(rf"(?:{ESCAPE}|(?<![A-Za-z0-9]))(?P<bare>(?:AKIA|ASIA)[A-Z0-9]{{16}})(?![A-Za-z0-9])"),
    ),  # AWS
    (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "xox"),  # GitHub, Slack
        re.compile(
            rf"(?:{ESCAPE}|(?<![A-Za-z0-9]))(?P<bare>gh[pousr]_[A-Za-z0-9]{{36,}}|xox[abeoprs]-[A-Za-z0-9-]{{10,}})"
        ),
    ),
    (("://",), re.compile(r"""://[^\s/:@"']{0,256}:(?P<bare>[^\s/@"']{1,256})(?=@)""")),  # the password of a URL
)
_SECRET_KEY: Final = re.compile(rf"(?i:{_SECRET_NAME})\s{{0,8}}\Z")
_QUOTED_NAME: Final = re.compile(rf"""(?i:{_SECRET_NAME})\\{{0,15}}["']""")
# What begins a pair of name and value: `(b'authorization', b'Basic ...')`, as in the headers of ASGI.
_PAIR: Final = re.compile(r"""[\[(]\s{0,8}b?["'][\w.-]{0,64}\Z""")
_BRACKETS: Final = re.compile(r"""[\[({]|[\])}]|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", re.DOTALL)
_NO_VALUES: Final = frozenset(("null", "none", "nil", "true", "false", "undefined"))
_MAX_NO_VALUE: Final = 9  # characters
#: CPU seconds that one rule takes at most for one line, and how many matches pass between two looks at the clock.
MAX_SECONDS: Final = 0.02
_BETWEEN_LOOKS: Final = 16


class CpuBudget:
    """How long a rule may work on a line. What is left after that is replaced as a whole."""

    def __init__(self, used: float = 0.0) -> None:
        """`used` are CPU seconds that the rule has taken before."""
        self._steps = 0
        self._limit = 0.0
        self._seconds = MAX_SECONDS - used

    def is_spent(self) -> bool:
        """Return whether the time is over. Call it after each step."""
        self._steps += 1
        if self._steps % _BETWEEN_LOOKS:
            return False
        now = time.thread_time()
        self._limit = self._limit or now + self._seconds
        return now > self._limit


def is_secret_name(name: str) -> bool:
    """Whether the value of a field with this name is a credential."""
    return _SECRET_KEY.search(name) is not None


def has_secret_name(text: str) -> bool:
    """Whether a string in JSON or `repr` text is the name of a credential, also if its value is elsewhere."""
    lower = text.lower()
    return any(word in lower for word in _TOKENS[0][0]) and _QUOTED_NAME.search(text) is not None


def may_contain_credentials(text: str) -> bool:
    """Whether `text`, which may be JSON, has to be checked. False is certain."""
    lower = text.lower()
    return any(word in lower for words, _ in _TOKENS for word in words)


def without_credentials(text: str, replacement: str = "***") -> str:
    """Replace credentials. Their names stay, and so do values that say there is none, such as `null`."""
    lower = text.lower()
    budget = CpuBudget()
    for words, pattern in _TOKENS:
        for word in words:
            if word in lower:
                text = _replaced(pattern, text, replacement, budget)
                break
    return text


def _replaced(pattern: re.Pattern[str], text: str, replacement: str, budget: CpuBudget) -> str:
    parts, done, at = [], 0, 0
    while match := pattern.search(text, at):
        begin, end = _secret_of(match)
        at = max(end, match.start() + 1)
        if begin < end:
            parts += [text[done:begin], replacement]
            done = end
        if budget.is_spent():
            return "".join((*parts, text[done:at], replacement))
    return "".join((*parts, text[done:])) if parts else text


def _secret_of(match: re.Match[str]) -> tuple[int, int]:
    """Where the secret is; an empty span without one."""
    kind = match.lastgroup or ""
    text = match.string
    if match.re is _NAMED and match["pair"] and not _PAIR.search(text, max(0, match.start() - 80), match.start()):
        return match.start(), match.start()
    begin, end = match.span(kind)
    if kind == "open":
        return begin, _closed(text, begin)
    if kind == "bare" and end - begin <= _MAX_NO_VALUE and match[kind].lower() in _NO_VALUES:
        return end, end
    return begin, end


def _closed(text: str, begin: int) -> int:
    """The end of what begins with a bracket: after the one that closes it, or the end of the text."""
    depth = 0
    for token in _BRACKETS.finditer(text, begin):
        if token[0] in ("[", "(", "{"):
            depth += 1
        elif token[0] in ("]", ")", "}"):
            depth -= 1
            if not depth:
                return token.end()
    return len(text)
