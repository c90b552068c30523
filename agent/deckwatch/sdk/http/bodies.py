"""Response bodies that are measured while a server sends them."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Self

from deckwatch.sdk.http.requests import Request

_MAX_LENGTH = 1 << 40  # bytes; a length that no body has would spoil the sum of all sizes


def content_length(text: str | None) -> int:
    """The value of a header Content-Length; 0 if there is none or it makes no sense."""
    length = int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else 0
    return length if length <= _MAX_LENGTH else 0


class _Measured:
    """`end` is called once: when the body is complete, fails or is closed. Closed early means a disconnected client."""

    def __init__(self, request: Request, end: Callable[[], None], body: Any) -> None:
        self._request = request
        self._end = end
        self._body = body

    def close(self) -> None:
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            if not self._request.is_ended:
                self._request.is_disconnected = self._request.method != "HEAD"
                self._end()

    def _count(self, chunk: Any) -> None:
        is_binary = isinstance(chunk, bytes | bytearray | memoryview)
        self._request.sent += len(chunk) if is_binary else len(str(chunk).encode())

    def _complete(self, reason: Exception) -> None:
        """End the request for the exception that ended the body."""
        if not isinstance(reason, StopIteration | StopAsyncIteration):
            self._request.error = reason
        if not self._request.is_ended:
            self._end()


class MeasuredBody(_Measured):
    """An iterable body."""

    def __init__(self, request: Request, end: Callable[[], None], body: Iterable[Any]) -> None:
        super().__init__(request, end, body)
        self._iterator: Iterator[Any] = iter(body)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            chunk = next(self._iterator)
        except Exception as reason:
            self._complete(reason)
            raise
        self._count(chunk)
        return chunk


class AsyncMeasuredBody(_Measured):
    """An asynchronously iterable body."""

    def __init__(self, request: Request, end: Callable[[], None], body: Any) -> None:
        super().__init__(request, end, body)
        self._iterator: AsyncIterator[Any] = aiter(body)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            chunk = await anext(self._iterator)
        except Exception as reason:
            self._complete(reason)
            raise
        self._count(chunk)
        return chunk
