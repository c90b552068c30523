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
    """The users with access. `users` maps user names (at least one) to bcrypt hashes."""

    def __init__(self, users: Mapping[str, str], checks: PasswordChecks) -> None:
        self._hashes = {user: hashed.encode() for user, hashed in users.items()}
        self._checks = checks
        self._most_expensive = max(self._hashes.values(), key=_cost)
        # Unknown users are checked too, so that response times do not reveal which users exist. No password matches
        # this hash, so a bug here cannot grant access.
        self._unknown_user_hash = self._most_expensive[:29] + secrets.token_hex(16)[:31].encode()

    def recall(self, credentials: Credentials) -> bool | None:
        """Return the result of an earlier check of these credentials; None if there is none."""
        return self._checks.recall(*credentials, self._hash_of(credentials.user))

    async def check(self, credentials: Credentials, address: str) -> bool:
        """Check the credentials. Checks from all addresses are queued."""
        hashed = self._hash_of(credentials.user)
        return await self._checks.check(*credentials, hashed, _padding(hashed, self._most_expensive), address)

    def _hash_of(self, user: str) -> bytes:
        return self._hashes.get(user, self._unknown_user_hash)


def _cost(hashed: bytes) -> int:
    """Return the base-2 logarithm of a bcrypt hash's rounds: 10 for `$2b$10$...`."""
    return int(hashed[4:6])


def _padding(hashed: bytes, most_expensive: bytes) -> tuple[bytes, ...]:
    """Return the hashes to check after a wrong password, so that a check takes the same time for every user.

    2^c + (2^c + 2^(c+1) + ... + 2^(m-1)) = 2^m rounds, with c the hash's cost and m that of the most expensive one.
    """
    return tuple(b"%b%02d%b" % (hashed[:4], cost, hashed[6:]) for cost in range(_cost(hashed), _cost(most_expensive)))


def credentials_in(authorization: str) -> Credentials | None:
    """Parse an `Authorization` header (RFC 7617). Return None unless it is valid basic authentication."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return Credentials(user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None
