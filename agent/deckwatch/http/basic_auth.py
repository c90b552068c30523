"""HTTP basic authentication: the users of a web configuration file and the passwords that clients send."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deckwatch.http.password_checks import PasswordChecks


class Credentials(NamedTuple):
    user: str
    password: bytes


class BasicAuth:
    """The users who have access: `users` maps at least one name to its bcrypt hash."""

    def __init__(self, users: Mapping[str, str], checks: PasswordChecks) -> None:
        self._hashes = {user: hashed.encode() for user, hashed in users.items()}
        self._checks = checks
        self._most_expensive = max(self._hashes.values(), key=_cost)
        # An unknown user costs a check too: the time to an answer does not reveal who exists. No password has this
        # hash, so that not even an error here could admit anybody.
        self._nobody = self._most_expensive[:29] + secrets.token_hex(16)[:31].encode()

    def recall(self, credentials: Credentials) -> bool | None:
        """Whether they are right, if that has been checked before."""
        return self._checks.recall(*credentials, self._hash_of(credentials.user))

    async def check(self, credentials: Credentials, address: str) -> bool:
        """Whether they are right; waits its turn among the checks of all addresses."""
        hashed = self._hash_of(credentials.user)
        return await self._checks.check(*credentials, hashed, _padding(hashed, self._most_expensive), address)

    def _hash_of(self, user: str) -> bytes:
        return self._hashes.get(user, self._nobody)


def _cost(hashed: bytes) -> int:
    """The base-2 logarithm of a bcrypt hash's rounds: 10 of `$2b$10$...`."""
    return int(hashed[4:6])


def _padding(hashed: bytes, most_expensive: bytes) -> tuple[bytes, ...]:
    """Hashes to check after a wrong password, so that it costs the same for every user.

    2^c + (2^c + 2^(c+1) + ... + 2^(m-1)) = 2^m rounds, with c the hash's cost and m that of the most expensive one.
    """
    return tuple(b"%b%02d%b" % (hashed[:4], cost, hashed[6:]) for cost in range(_cost(hashed), _cost(most_expensive)))


def credentials_in(authorization: str) -> Credentials | None:
    """The user and password of an `Authorization` header (RFC 7617); None if it has none."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return Credentials(user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None
