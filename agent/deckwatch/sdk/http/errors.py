"""Unhandled exceptions: fingerprints, and a bounded table of the most frequent ones."""

import hashlib
import threading
import time
import traceback
from dataclasses import dataclass, field

from deckwatch.sdk.declared import HTTP_ERRORS

_FRAMES = 5  # innermost frames that a fingerprint covers
_MAX_MESSAGE = 200  # characters


@dataclass
class ErrorGroup:
    """Exceptions of one type, raised at one place. `place` is `module:function` of the innermost frame."""

    type: str
    fingerprint: str
    place: str
    message: str
    count: int = 0
    first_seen: float = field(default_factory=time.time)
    last_seen: float = 0.0
    route: str = ""


def fingerprint(error: BaseException) -> tuple[str, str]:
    """The fingerprint of an exception and the place where it was raised.

    Line numbers and messages do not count: both change without a change of the fault.
    """
    places = []
    for frame, _ in traceback.walk_tb(error.__traceback__):
        places.append(f"{frame.f_globals.get('__name__', '?')}:{frame.f_code.co_qualname}")
    seed = "\n".join([type_name(error), *places[-_FRAMES:]])
    digest = hashlib.blake2b(seed.encode(errors="replace"), digest_size=4).hexdigest()
    return digest, places[-1] if places else ""


def type_name(error: BaseException) -> str:
    """The type of an exception with its module, which built-in types do without."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


class TopErrors:
    """The errors of this process by fingerprint. When the table is full, a new error replaces the oldest rare one."""

    def __init__(self, limit: int = HTTP_ERRORS.max_series) -> None:
        self._limit = limit
        self._groups: dict[str, ErrorGroup] = {}
        self._lock = threading.Lock()

    def add(self, error: BaseException, route: str) -> ErrorGroup:
        digest, place = fingerprint(error)
        with self._lock:
            group = self._groups.get(digest)
            if group is None:
                if len(self._groups) >= self._limit:
                    rarest = min(self._groups.values(), key=lambda it: (it.count, it.last_seen))
                    del self._groups[rarest.fingerprint]
                group = self._groups[digest] = ErrorGroup(type_name(error), digest, place, "")
            group.count += 1
            group.last_seen = time.time()
            group.route = route
            group.message = _message(error)
        return group

    def clear(self) -> None:
        with self._lock:
            self._groups.clear()

    def most_frequent(self, count: int) -> list[ErrorGroup]:
        with self._lock:
            return sorted(self._groups.values(), key=lambda it: -it.count)[:count]


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_MAX_MESSAGE]
    except Exception:  # noqa: BLE001 - __str__ belongs to the application
        return ""
