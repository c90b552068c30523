"""The installed exporters: the built-in table, and those that other distributions publish."""

from __future__ import annotations

import difflib
from functools import cached_property, lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from deckwatch.config import RegistryError, Settings
from deckwatch.exporter import Exporter, MetricPattern, Target, describe
from deckwatch.metrics.prometheus_client import Adopted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.registry import Collector as ClientCollector

    from deckwatch.exporter import Context

#: Where a third party publishes an `Exporter` (or a prometheus_client collector), under its config key.
ENTRY_POINTS = "deckwatch.exporters"


#: What the names of samples end with.
_SUFFIXES = {"histogram": ("", "_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}


class Registry:
    """Exporters by their config key, each imported when it is first asked for.

    `published` maps a key to where the exporter is (`module:attribute`) and who published it; `clashes`, a key that
    several distributions claim to their names. A built-in exporter is never replaced by another of its name.
    """

    def __init__(
        self, published: Mapping[str, tuple[str, str]], clashes: Mapping[str, Iterable[str]] | None = None
    ) -> None:
        self._published = dict(published)
        self._clashes = dict(clashes or {})
        self.get = lru_cache(maxsize=None)(self._load)

    @classmethod
    def installed(cls) -> Registry:
        from deckwatch_exporters import EXPORTERS  # the exporters import this package's modules

        published: dict[str, tuple[str, str]] = {}
        clashes: dict[str, set[str]] = {}
        for entry in entry_points(group=ENTRY_POINTS):
            publisher = entry.dist.name if entry.dist else "an unknown distribution"
            known = published.setdefault(entry.name, (entry.value, publisher))
            if known[0] != entry.value:
                clashes.setdefault(entry.name, {known[1]}).add(publisher)
        built_in = {name: (place, "deckwatch") for name, place in EXPORTERS.items()}
        return cls({**published, **built_in}, {name: who for name, who in clashes.items() if name not in built_in})

    def names(self) -> list[str]:
        return sorted(self._published)

    def loadable(self) -> tuple[dict[str, Exporter[Any]], list[RegistryError]]:
        """The exporters that can be loaded, by name, and why the others cannot."""
        found, problems = {}, []
        for name in self.names():
            try:
                exporter = self.get(name)
                _ = exporter.metrics  # imports all of its modules
            except RegistryError as broken:
                problems.append(broken)
            except (Exception, SystemExit) as failure:  # noqa: BLE001  a third party's module can raise anything
                problems.append(RegistryError(f"exporter {name!r} cannot be loaded: {describe(failure)}"))
            else:
                found[name] = exporter
        return found, problems

    def exporter_of(self, sample: str) -> str:
        """The exporter that declares the metric of a sample; `` if none does. The first call loads all exporters."""
        names, patterns = self._declared
        return names.get(sample) or next((name for name, it in patterns if it.matches(sample)), "")

    @cached_property
    def _declared(self) -> tuple[dict[str, str], list[tuple[str, MetricPattern]]]:
        """The exporter by the name of a sample, and the exporters' patterns."""
        names: dict[str, str] = {}
        patterns: list[tuple[str, MetricPattern]] = []
        for name, exporter in self.loadable()[0].items():
            for metric in exporter.metrics:
                if isinstance(metric, MetricPattern):
                    patterns.append((name, metric))
                for suffix in _SUFFIXES.get(metric.type, ("",)):
                    names.setdefault(metric.name + suffix, name)
        return names, patterns

    def _load(self, name: str) -> Exporter[Any]:
        """The exporter under this key. Raises RegistryError when there is none, or it is broken."""
        if name not in self._published:
            near = difflib.get_close_matches(name, self._published, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise RegistryError(f"unknown exporter {name!r}{hint}")
        place, publisher = self._published[name]
        if name in self._clashes:
            everybody = ", ".join(sorted(self._clashes[name]))
            raise RegistryError(f"exporter {name!r} is published more than once, by {everybody}; uninstall all but one")
        try:
            thing = EntryPoint(name, place, ENTRY_POINTS).load()
            if isinstance(thing, type) and hasattr(thing, "collect"):
                thing = thing()
        except (Exception, SystemExit) as failure:
            raise RegistryError(
                f"exporter {name!r} of {publisher} cannot be loaded from {place}: {describe(failure)}"
            ) from failure
        if isinstance(thing, Exporter):
            if thing.name != name:
                raise RegistryError(f"exporter {name!r} of {publisher}: {place} has the name {thing.name!r}")
            return thing
        if callable(getattr(thing, "collect", None)):
            return _adopted(name, thing)
        raise RegistryError(f"exporter {name!r} of {publisher}: {place} is neither an Exporter nor a collector")


class NoSettings(Settings):
    """The settings of an exporter that has none."""


def _adopted(name: str, collector: ClientCollector) -> Exporter[NoSettings]:
    """An exporter made of a prometheus_client collector. Its metrics are not in the catalogue: it declares none."""

    def open_collector(_settings: NoSettings, _context: Context) -> Target:
        return Target({name: Adopted(collector)})

    return Exporter(name=name, settings=NoSettings, open=open_collector)
