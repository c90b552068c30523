"""HTTP basic authentication against bcrypt hashes, off the event loop, each password verified once."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_REMEMBERED = 256
_WAITING = 16  # a check takes some 70 ms: whoever floods us with passwords waits for himself only
_LONGEST_PASSWORD = 72  # bytes; bcrypt looks at no more, and its library raises above that


class TooManyChecks(Exception):
    """More passwords wait to be verified than is reasonable."""


class BasicAuth:
    """Who may come in: `users` maps at least one name to its hash. Results are remembered under a keyed digest,
    never under the password itself.
    """

    def __init__(self, users: Mapping[str, str]) -> None:
        import bcrypt  # only those who set users pay for it

        self._hashes = {user: hashed.encode() for user, hashed in users.items()}
        # An unknown user costs what a known one does: the time of an answer tells nobody who exists.
        self._nobody = next(iter(self._hashes.values()))
        self._matches = bcrypt.checkpw
        self._key = os.urandom(32)
        self._results: OrderedDict[bytes, bool] = OrderedDict()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="bcrypt")
        self._waiting = 0

    async def admits(self, authorization: str) -> bool:
        """Whether an `Authorization` header names a user with the right password. Raises TooManyChecks."""
        credentials = _decode(authorization)
        if credentials is None:
            return False
        user, password = credentials
        digest = hmac.digest(self._key, b"\0".join((user.encode(), password)), "sha256")
        known = self._results.get(digest)
        if known is not None:
            return known
        if self._waiting >= _WAITING:
            raise TooManyChecks
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            result = await loop.run_in_executor(self._executor, self._verify, user, password)
        finally:
            self._waiting -= 1
        self._results[digest] = result
        if len(self._results) > _REMEMBERED:
            # The right ones stay: somebody who tries passwords must not make the scraper's be verified again.
            wrong = next((key for key, right in self._results.items() if not right), None)
            self._results.pop(wrong if wrong is not None else next(iter(self._results)))
        return result

    def close(self) -> None:
        self._executor.shutdown(wait=False)

    def _verify(self, user: str, password: bytes) -> bool:
        fits = len(password) <= _LONGEST_PASSWORD
        hashed = self._hashes.get(user, self._nobody)
        try:
            matches = self._matches(password[:_LONGEST_PASSWORD], hashed)
        except ValueError:  # a NUL byte in the password: bcrypt refuses it
            return False
        return matches and fits and user in self._hashes


def _decode(authorization: str) -> tuple[str, bytes] | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None
