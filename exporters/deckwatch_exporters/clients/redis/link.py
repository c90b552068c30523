"""Redis commands and replies over one open connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch_exporters.clients.stream import Deadline, Endpoint, LinkError, Stream

from .resp import ProtocolError, Reader, Reply

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence


class Link:
    """An open connection. Its methods raise LinkError, and TimeoutError after the deadline."""

    def __init__(self, endpoint: Endpoint, tls: ssl.SSLContext | None, deadline: Deadline) -> None:
        """Connect. Raises ImportError if hiredis is not installed."""
        self._reader = Reader()
        self._stream = Stream(endpoint, tls, deadline)

    def close(self) -> None:
        self._stream.close()

    def round_trip(self, commands: Sequence[bytes], deadline: Deadline) -> list[Reply]:
        """Send packed commands in one go and return their replies."""
        self._reader.begin_exchange()
        replies: list[Reply] = []
        self.send(commands, deadline)
        while len(replies) < len(commands):
            replies.extend(self._receive(deadline))
        if len(replies) > len(commands):
            raise LinkError("not the Redis protocol: more replies than commands")
        return replies

    def send(self, commands: Sequence[bytes], deadline: Deadline) -> None:
        self._stream.send(b"".join(commands), deadline)

    def receive(self, deadline: Deadline) -> list[Reply]:
        """The replies that the next bytes complete, which the server sends to a subscriber unasked; maybe none."""
        replies = self._receive(deadline)
        if replies:
            self._reader.begin_exchange()
        return replies

    def _receive(self, deadline: Deadline) -> list[Reply]:
        try:
            return self._reader.feed(self._stream.receive(deadline))
        except ProtocolError as wrong:
            raise LinkError(str(wrong)) from None
