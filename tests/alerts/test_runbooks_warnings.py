"""Dangerous commands of the runbooks come with a warning: what may be lost, or who must agree."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from .runbook_texts import RUNBOOKS

if TYPE_CHECKING:
    from pathlib import Path

#: What may lose data: the warning is in bold, or names who must agree.
_LOSES_DATA = re.compile(
    r"pg_promote\(\)|pg_drop_replication_slot|redis-check-aof --fix|memray attach|pg_basebackup|replicaof NEW_HOST|"
    r"replicaof no one|failover NAME|failover takeover|truncate -s|-delete`|fsck -f|umount -f|maxmemory-policy allkeys|"
    r"MINVALUE|ALTER COLUMN|mdadm --manage [^ ]+ --remove|client kill type|--cluster fix|shutdown nosave|"
    r"pg_rewind|ROLLBACK PREPARED|stop-writes-on-bgsave-error no|chronyc makestep|config set min-replicas"
)
#: What ends work in progress, or deletes what can be made again.
_INTERRUPTS = re.compile(
    r"pg_terminate_backend|pg_cancel_backend|systemctl (?:stop|restart) \"?\$UNIT|kill \$PID|docker system prune|"
    r"--vacuum-size|job forget"
)
_LOSS = (
    r"los[et]s?|losing|lost|discards?|erases?|deletes?|Deletion|destroys?|overwrites?|replaces?|"
    r"blocks?|disconnects?|colliding|split brain|rolled back|backwards"
)
_NAMES_LOSS = re.compile(rf"\b(?:{_LOSS})\b")
_NAMES_LOSS_IN_BOLD = re.compile(rf"\*\*[^*]*\b(?:{_LOSS})\b[^*]*\*\*")
_NAMES_WHO_AGREES = re.compile(
    r"\bowners?\b[^.]*\b(?:agrees?|consents?)\b|\b(?:[Aa]sk|[Dd]ecide with|acceptable to)\b[^.]*\bowners?\b|\bask who\b"
    r"|second person confirm"
)


def _is_warned_of(command: re.Pattern[str], text: str) -> bool:
    named = bool(_NAMES_WHO_AGREES.search(text))
    return named or bool((_NAMES_LOSS_IN_BOLD if command is _LOSES_DATA else _NAMES_LOSS).search(text))


def _paragraphs(text: str) -> list[tuple[str, str]]:
    """Each paragraph or item of a list, with the paragraph before it."""
    found = []
    for paragraph in re.split(r"\n\n|\n(?=- |\d\. )", text):
        before = text.partition(paragraph)[0].rstrip().rpartition("\n\n")[2]
        found.append((paragraph, before))
    return found


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_dangerous_command_comes_with_what_may_be_lost_or_who_must_agree(path: Path) -> None:
    for paragraph, before in _paragraphs(path.read_text()):
        for commands in (_LOSES_DATA, _INTERRUPTS):
            if found := commands.search(paragraph):
                assert _is_warned_of(commands, before + paragraph), f"{found[0]}: {paragraph}"


@pytest.mark.parametrize(
    ("text", "is_warning"),
    [
        ("**Important:** `replicaof NEW_HOST 6379`.", False),
        ("Never mind the **replica**: `replicaof NEW_HOST 6379` loses data.", False),
        ("`replicaof NEW_HOST 6379` **erases the data of this server**.", True),
        ("The owner of the data must agree to `replicaof NEW_HOST 6379`.", True),
        ("Ask the owner of the data before `replicaof NEW_HOST 6379`.", True),
    ],
)
def test_bold_text_alone_is_no_warning(text: str, is_warning: bool) -> None:
    assert _is_warned_of(_LOSES_DATA, text) is is_warning


def test_every_kind_of_dangerous_command_is_in_a_runbook() -> None:
    texts = "\n".join(path.read_text() for path in RUNBOOKS)
    for commands in (_LOSES_DATA, _INTERRUPTS):
        for one in commands.pattern.split("|"):
            assert "(?:" in one or ")" in one or re.search(one, texts), one
