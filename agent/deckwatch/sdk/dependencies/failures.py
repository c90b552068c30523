"""The failure boundary between the library and what it watches: a failure is logged once and reaches no caller."""

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

_log = logging.getLogger("deckwatch.dependencies")
_Object = TypeVar("_Object")
_Watch = TypeVar("_Watch", bound=Callable[..., None])


_reported: set[str] = set()


class Guard:
    """A block that measures, which may run in several threads. What it raises is logged, once for each subject."""

    __slots__ = ("_subject",)

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def __enter__(self) -> None:
        """Nothing is needed."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False  # also what ends the program
        if self._subject not in _reported:
            _reported.add(self._subject)
            _log.error("%s cannot be measured", self._subject, exc_info=error)
        return True


class Unsupported(Exception):
    """The object cannot be watched; the text says why and what to do."""


def watch_safely(watch: Callable[[Any, str], None], watched: _Object, name: str, subject: str) -> _Object:
    """Watch an object by calling `watch`, and return it. A failure is logged."""
    with Guard(subject):
        try:
            watch(watched, name)
        except Unsupported as reason:
            _log.warning("%s is not measured: %s", subject, reason)
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
