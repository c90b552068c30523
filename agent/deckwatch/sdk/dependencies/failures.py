"""The failure boundary between the library and what it watches: a failure is logged once and reaches no caller."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

_log = logging.getLogger("deckwatch.dependencies")
_Object = TypeVar("_Object")
_Watch = TypeVar("_Watch", bound=Callable[..., None])


class Reporter:
    """Log the exception that is being handled, once for each subject."""

    def __init__(self) -> None:
        self._reported: set[str] = set()

    def report(self, subject: str) -> None:
        if subject not in self._reported:
            self._reported.add(subject)
            _log.exception("%s cannot be measured", subject)


REPORTER = Reporter()


class Unsupported(Exception):
    """The object cannot be watched; the text says why and what to do."""


def watch_safely(watch: Callable[[Any, str], None], watched: _Object, name: str, subject: str) -> _Object:
    """Watch an object by calling `watch`, and return it. A failure is logged."""
    try:
        watch(watched, name)
    except Unsupported as reason:
        _log.warning("%s is not measured: %s", subject, reason)
    except Exception:  # noqa: BLE001 - the failure boundary: internals of other libraries change
        REPORTER.report(subject)
    return watched


def library_of(watched: object, libraries: dict[str, _Watch]) -> _Watch:
    """The entry for the library that defines the object's class or a base class of it, without importing a library.

    Raises Unsupported.
    """
    kind = watched if isinstance(watched, type) else type(watched)
    for parent in kind.__mro__:
        found = libraries.get(parent.__module__.partition(".")[0])
        if found is not None:
            return found
    raise Unsupported(f"{kind.__module__}.{kind.__qualname__} is not of {', '.join(sorted(libraries))}")
