"""The exporters that are installed: the built-in table, and what other distributions publish."""

from __future__ import annotations

import difflib
import importlib
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from deckwatch.collector import Exporter
from deckwatch.ecosystem import adopt

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Where a third party publishes an `Exporter` (or a prometheus_client collector), under its config key.
ENTRY_POINTS = "deckwatch.exporters"


class RegistryError(Exception):
    """An exporter that is published but cannot be used; the message names who published it."""


class Registry:
    """Exporters by their config key, each imported when it is first asked for.

    `published` maps a key to where the exporter is (`module:attribute`) and who published it.
    """

    def __init__(self, published: Mapping[str, tuple[str, str]]) -> None:
        self._published = dict(published)
        self.get = lru_cache(maxsize=None)(self._load)

    @classmethod
    def installed(cls) -> Registry:
        from deckwatch_exporters import EXPORTERS  # the exporters import this package's modules

        published = {
            entry.name: (entry.value, entry.dist.name if entry.dist else "an unknown distribution")
            for entry in entry_points(group=ENTRY_POINTS)
        }
        built_in = {name: (place, "deckwatch") for name, place in EXPORTERS.items()}
        return cls({**published, **built_in})

    def names(self) -> list[str]:
        return sorted(self._published)

    def _load(self, name: str) -> Exporter:
        """The exporter under this key. Raises RegistryError when there is none, or it is broken."""
        if name not in self._published:
            near = difflib.get_close_matches(name, self._published, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise RegistryError(f"unknown exporter {name!r}{hint}")
        place, publisher = self._published[name]
        module, _, attribute = place.partition(":")
        try:
            thing = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as failure:
            raise RegistryError(
                f"exporter {name!r} of {publisher} cannot be loaded from {place}: {failure}"
            ) from failure
        if isinstance(thing, Exporter):
            return thing
        if isinstance(thing, type) and hasattr(thing, "collect"):
            thing = thing()
        if callable(getattr(thing, "collect", None)):
            return adopt(name, thing)
        raise RegistryError(f"exporter {name!r} of {publisher}: {place} is neither an Exporter nor a collector")
