"""The runbooks, and the queries and commands in them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .rule_files import ALERTS

if TYPE_CHECKING:
    from pathlib import Path

RUNBOOKS = sorted((ALERTS / "runbooks").glob("*.md"))

_STATEMENT = re.compile(r"(ALTER|ANALYZE|CREATE|DROP|GRANT|REINDEX|ROLLBACK|SELECT|SET|SHOW|VACUUM) .*;$", re.DOTALL)
#: A command of Redis in a code span without `redis-cli`: for a session that is open.
_IN_SESSION = re.compile(
    r"(bgsave|client list|client kill|cluster failover|config [gs]et|info|replicaof|sentinel|shutdown)\b"
)


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)


def lines(path: Path, language: str) -> list[str]:
    return [line for block in blocks(path, language) for line in block.splitlines() if line]


def spans(path: Path) -> list[str]:
    """The code in the text, each on one line."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def statements(path: Path) -> list[str]:
    """The SQL in blocks and in the text."""
    in_blocks = [statement.strip() + ";" for block in blocks(path, "sql") for statement in block.split(";")[:-1]]
    return in_blocks + [span for span in spans(path) if _STATEMENT.match(span)]


def redis_commands(path: Path) -> list[str]:
    """Lines of shell that call `redis-cli` or read the log of Redis, then those in the text."""
    found = [line for line in lines(path, "sh") if "redis-cli" in line or "redis-server.log" in line]
    found += [span for span in spans(path) if span.startswith("redis-cli ") or _IN_SESSION.match(span)]
    return list(dict.fromkeys(found))
