"""Check the wording of texts: python tests/wording.py PATH...

It reads the prose of Markdown, the string literals and comments of Python, and the whole of YAML, templates and other
text. It reports words that have a plainer alternative, sentences of Markdown that are too long, and misspelled words
(codespell). A path that is a folder stands for the files below it that Git tracks.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parent.parent
MOST_WORDS = 35
#: Files that hold data rather than prose.
_NO_PROSE = (".json", ".png", ".lock", ".txt", ".prom", ".bin", ".gz")

#: What to avoid, and what to write.
WORDS = {
    r"mend(s|ed|ing)?": "fix",
    r"dear(er|est|ly)?": "expensive",
    r"seldom": "rarely",
    r"for ?ever": "without a limit, until ...",
    r"whom": "who, or name the person or service",
    r"whose": "a sentence of its own, or 'with'",
    r"(there|where|here)(of|in|by|upon)": "of it, in it, by it",
    r"tells? of|told of": "report",
    r"at the (most|least)": "at most, at least",
    r"(that|which|who) (is|are) none": "malformed, invalid, missing",
    r"is no (path|number|name|url|fault|metric|secret)": "is not a ...",
    r"(?<!none )of (its|their) own": "own, separate",
    r"did not come in time|does not come in time": "timed out",
    r"for want of": "because ... is missing",
    r"anew|afresh": "again",
    r"hither|thither|thence|hence(forth)?|whence": "from there, therefore",
    r"nought|naught|aught": "nothing, 0",
    r"lest": "so that ... not",
    r"shall": "must, will",
    r"amidst|amongst|whilst": "amid, among, while",
    r"albeit|notwithstanding": "although",
    r"in need": "in an emergency",
    r"(it|that|this) errs?|errs": "fails, is wrong",
    r"goes? on with": "continue",
    r"the one who": "the user, the client",
    r"who (asks|asked)": "the client",
    r"hurts?": "affect, impact",
    r"come to pass|came to pass": "happen",
    r"siblings?": "neighboring files, other ...",
    r"whereabouts|ecosystem": "location; the project names",
    r"(synchronis|authoris|recognis|normalis|initialis|serialis)\w+": "American spelling: -ize",
    r"colou?red|colours?|behaviours?|neighbours?|honours?": "American spelling: -or",
    r"cancelled|cancelling|labelled|labelling": "American spelling: one l",
}
_WORDS = re.compile("|".join(rf"(?P<w{n}>\b(?:{word})\b)" for n, word in enumerate(WORDS)), re.IGNORECASE)


@dataclass(frozen=True)
class Allowed:
    """A text that stays as it is. `files` is a pattern of paths."""

    files: str
    text: str
    reason: str


ALLOWED = (
    Allowed("agent/deckwatch/collection/*.py", "labelled", "the name of a variable in an f-string"),
    Allowed("exporters/deckwatch_exporters/system/network.py", "errs", "a field of /proc/net/dev"),
    Allowed("tests/wording.py", "", "it lists the words"),
    Allowed("tests/test_wording.py", "", "it has examples of the words"),
)
#: Words that codespell takes for misspelled.
_SPELLED = ("rever", "te", "doas", "intervall", "eror", "vermillion", "oll", "ue", "mis")

_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*(?:\n[^`\n]+)?`")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_BLANK = re.compile(r"[^\n]")


@dataclass(frozen=True)
class Finding:
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def files_below(paths: Iterable[str]) -> list[Path]:
    """The tracked text files of these paths. Raises CalledProcessError if Git does not know one."""
    listed = subprocess.run(
        ["git", "ls-files", "--error-unmatch", *paths], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.splitlines() if not name.endswith(_NO_PROSE)]


def check(path: str, text: str) -> list[Finding]:
    """Words to avoid and, in Markdown, long sentences. `path` selects how the text is read and what is allowed."""
    prose = _prose(path, text)
    findings = [
        Finding(path, prose.count("\n", 0, found.start()) + 1, f"{found[0]!r}: write {_alternative(found)}")
        for found in _WORDS.finditer(prose)
        if not _is_allowed(path, found[0])
    ]
    if path.endswith(".md"):
        findings += [
            Finding(path, line, f"sentence of {words} words (at most {MOST_WORDS}): {start} ...")
            for line, words, start in _long_sentences(prose)
        ]
    return findings


def _alternative(found: re.Match[str]) -> str:
    return list(WORDS.values())[int((found.lastgroup or "w0")[1:])]


def _is_allowed(path: str, text: str) -> bool:
    return any(fnmatchcase(path, it.files) and (not it.text or it.text == text.lower()) for it in ALLOWED)


def _prose(path: str, text: str) -> str:
    """The text with spaces in place of everything that is not prose, so that lines keep their numbers."""
    if path.endswith(".py"):
        return _python_prose(text)
    if path.endswith(".md"):
        text = _FENCED.sub(lambda code: _BLANK.sub(" ", code[0]), text)
        text = _LINK.sub(lambda link: link[1], text)
        return _CODE.sub(lambda code: "X" + "\n" * code[0].count("\n"), text)
    return _CODE.sub(lambda code: _BLANK.sub(" ", code[0]), text)


def _python_prose(text: str) -> str:
    lines = [""] * (text.count("\n") + 2)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or "STRING" in tokenize.tok_name[token.type]:
            for number, line in enumerate(token.string.split("\n"), token.start[0]):
                lines[number - 1] += line + " "
    return "\n".join(lines)


def _long_sentences(prose: str) -> Iterator[tuple[int, int, str]]:
    """Line, number of words and beginning of each sentence that is too long. Tables and headings are not sentences."""
    block: list[str] = []
    first = 1
    for number, line in enumerate([*prose.split("\n"), ""], 1):
        starts_item = re.match(r"\s*([-*]|\d+\.) ", line)
        if block and (not line.strip() or starts_item or line.startswith(("|", "#"))):
            yield from _long_in(first, " ".join(block))
            block = []
        if line.strip() and not line.startswith(("|", "#", "    ")):
            if not block:
                first = number
            block.append(line.strip())


def _long_in(line: int, paragraph: str) -> Iterator[tuple[int, int, str]]:
    for sentence in re.split(r"(?<=[.!?:;])[\s*]+", paragraph):
        words = [word for word in sentence.split() if re.search(r"\w", word)]
        if len(words) > MOST_WORDS:
            yield line, len(words), " ".join(words[:6])


def misspelled(files: Iterable[Path]) -> list[str]:
    """What codespell reports, one line each."""
    command = [sys.executable, "-m", "codespell_lib", f"--ignore-words-list={','.join(_SPELLED)}", *map(str, files)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()


def main(paths: list[str]) -> int:
    if not paths:
        sys.stderr.write("wording.py: no path given. Name the files or folders to check.\n")
        return 2
    try:
        files = files_below(paths)
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"wording.py: {error.stderr.strip()}\n")
        return 2
    findings = [
        str(finding) for path in files for finding in check(str(path.relative_to(ROOT)), path.read_text("utf-8"))
    ]
    findings += misspelled(files)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
