"""The page for people. It loads nothing: style and script are in it, and it works without the script."""

from __future__ import annotations

import base64
import hashlib
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from deckwatch.status_page import sparkline, texts
from deckwatch.status_page.view import MARKS, view

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jinja2 import Template

    from deckwatch.collection.status import AgentStatus

_FOLDER = Path(__file__).parent / "templates"
_LINKS = (
    ("/metrics", "Metrics"),
    ("/health/detailed", "Health"),
    ("/health/dependencies", "Dependencies"),
    ("/sd", "Service discovery"),
    ("/api/v1/status", "Status as JSON"),
)


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8").strip()


_STYLE, _SCRIPT = _read("page.css"), _read("page.js")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_hash(_STYLE)}'; script-src 'sha256-{_hash(_SCRIPT)}'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def status_page(
    status: AgentStatus,
    history: Callable[[str, str, str], Sequence[float]] = lambda *_: (),
    text: str = "",
    state: str = "",
    clock: Callable[[], float] = time.time,
) -> str:
    """The whole page. `text` and `state` filter the table of collectors.

    Every value is escaped: names and errors come from what is monitored.
    """
    return _template().render(
        status=status,
        view=view(status, history, text, state),
        now=clock(),
        style=_STYLE,
        script=_SCRIPT,
        links=_LINKS,
        marks=MARKS,
        sparkline=sparkline,
        number=texts.number,
        duration=texts.duration,
        ago=texts.ago,
        moment=texts.moment,
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # 3 MB, which an agent without readers saves

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")
