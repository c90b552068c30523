"""Clients of redis-py that are used as a cache."""

import time
from typing import Any

from deckwatch.sdk.dependencies.caches.figures import CacheFigures
from deckwatch.sdk.dependencies.failures import Guard, Unsupported
from deckwatch.sdk.dependencies.methods import observe

_WATCHED = "_deckwatch_is_watched"
#: Commands that look up one value, several keys, or several fields of one key.
_ONE = frozenset({"GET", "GETEX", "GETDEL", "HGET"})
_KEYS = frozenset({"MGET"})
_FIELDS = frozenset({"HMGET"})
_OPERATIONS = {
    **dict.fromkeys(_ONE | _KEYS | _FIELDS, "get"),
    **dict.fromkeys(("HGETALL", "EXISTS"), "get"),
    **dict.fromkeys(("SET", "SETEX", "PSETEX", "SETNX", "MSET", "HSET", "HMSET", "GETSET", "EXPIRE"), "set"),
    **dict.fromkeys(("DEL", "UNLINK", "HDEL"), "delete"),
}


def watch(client: Any, figures: CacheFigures) -> None:
    if not hasattr(client, "execute_command") or not hasattr(client, "pipeline"):
        raise Unsupported(f"{type(client).__name__} is not a client. Pass the client, or use watch_pool.")
    if vars(client).get(_WATCHED):
        return
    vars(client)[_WATCHED] = True
    observe(client, "execute_command", _Commands(figures))
    observe(client, "pipeline", _Pipelines(figures))


class _Commands:
    """Observes the commands of a client."""

    def __init__(self, figures: CacheFigures) -> None:
        self._figures = figures

    def begin(self, _owner: Any, arguments: tuple[Any, ...]) -> tuple[str, tuple[Any, ...], float] | None:
        operation = _OPERATIONS.get(arguments[0]) if arguments and isinstance(arguments[0], str) else None
        return None if operation is None else (operation, arguments, time.perf_counter())

    def end(self, begun: tuple[str, tuple[Any, ...], float] | None, reply: Any, error: BaseException | None) -> None:
        if begun is None:
            return
        operation, arguments, started = begun
        if error is None:
            self._figures.took(operation, _key(arguments), started)
            _count(self._figures, arguments, reply)
        elif isinstance(error, Exception):  # not a canceled task
            self._figures.failed(operation, _key(arguments), started)


class _Pipelines:
    """Observes the pipelines that a client makes."""

    def __init__(self, figures: CacheFigures) -> None:
        self._figures = figures
        self._executions = _Executions(figures)

    def begin(self, _owner: Any, _arguments: tuple[Any, ...]) -> None:
        """Nothing is known before."""

    def end(self, _begun: Any, pipeline: Any, error: BaseException | None) -> None:
        with Guard(self._figures.subject):
            if error is None:
                observe(pipeline, "execute", self._executions)


class _Executions:
    """Observes the execution of pipelines."""

    def __init__(self, figures: CacheFigures) -> None:
        self._figures = figures

    def begin(self, pipeline: Any, _arguments: tuple[Any, ...]) -> tuple[list[tuple[Any, ...]], float]:
        return _queued(pipeline), time.perf_counter()

    def end(self, begun: tuple[list[tuple[Any, ...]], float], replies: Any, error: BaseException | None) -> None:
        commands, started = begun
        if not commands:
            return
        if error is None:
            _count_all(self._figures, commands, replies, started)
        elif isinstance(error, Exception):
            self._figures.failed("pipeline", _key(commands[0]), started)


def _queued(pipeline: Any) -> list[tuple[Any, ...]]:
    """The arguments of the commands that a pipeline is going to send."""
    try:
        return [tuple(command[0]) for command in pipeline.command_stack]
    except Exception:  # noqa: BLE001 - internals of redis-py
        return []


def _count_all(figures: CacheFigures, commands: list[tuple[Any, ...]], replies: Any, started: float) -> None:
    figures.took("pipeline", _key(commands[0]), started)
    if isinstance(replies, list) and len(replies) == len(commands):
        for arguments, reply in zip(commands, replies, strict=True):
            if not isinstance(reply, Exception):
                _count(figures, arguments, reply)


def _key(arguments: tuple[Any, ...]) -> str | bytes:
    return _text(arguments[1]) if len(arguments) > 1 else ""


def _text(key: Any) -> str | bytes:
    """A key as redis-py sends it: numbers as text."""
    if isinstance(key, (str, bytes)):
        return key
    return bytes(key) if isinstance(key, (bytearray, memoryview)) else str(key)


def _count(figures: CacheFigures, arguments: tuple[Any, ...], reply: Any) -> None:
    command = arguments[0]
    if command in _ONE:
        figures.found(_key(arguments), reply is not None)
    elif command in _KEYS and isinstance(reply, list):
        for key, value in zip(arguments[1:], reply, strict=False):
            figures.found(_text(key), value is not None)
    elif command in _FIELDS and isinstance(reply, list):
        for value in reply:
            figures.found(_key(arguments), value is not None)
    elif command == "HGETALL":
        figures.found(_key(arguments), bool(reply))
