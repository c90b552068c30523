"""Every setting of every exporter is on the exporter's page, and every setting of a page exists."""

from __future__ import annotations

import re
import typing
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from deckwatch.collection.registry import Registry
from services import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The pages of an exporter, with the page of the connection settings that it refers to.
PAGES = {
    "system": ("host.md",),
    "redis": ("redis.md",),
    "postgres": ("postgresql.md",),
    "pgbouncer": ("pgbouncer.md",),
    "http_probe": ("http-endpoints.md",),
    "queues": ("queues.md", "celery.md", "redis.md"),
    "business": ("business.md", "redis.md"),
    "apps": ("applications.md",),
}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models(part)


def _fields(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[str]:
    if model in seen:
        return set()
    seen.add(model)
    found = {field.alias or name for name, field in model.model_fields.items()} - {"root", "enabled"}
    for field in model.model_fields.values():
        for nested in _models(field.annotation):
            found |= _fields(nested, seen)
    return found


def _words(pages: tuple[str, ...]) -> set[str]:
    """Return all words in code on these pages."""
    text = "".join((ROOT / "docs" / page).read_text() for page in pages)
    blocks = re.findall(r"^```.*?^```|`[^`\n]+`", text, re.MULTILINE | re.DOTALL)
    return {word for block in blocks for word in re.findall(r"\w+", block)}


@pytest.mark.parametrize("name", PAGES)
def test_every_setting_of_an_exporter_is_on_its_page(name: str) -> None:
    exporter = Registry.installed().loadable()[0][name]
    assert _fields(exporter.settings, set()) - _words(PAGES[name]) == set()


def test_every_exporter_has_a_page() -> None:
    assert set(Registry.installed().loadable()[0]) == set(PAGES)
