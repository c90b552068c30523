"""Checks passwords against bcrypt hashes: in one thread, with fair queuing by client address.

A check takes about 50 ms, so a client that guesses passwords could saturate the thread. Addresses take turns, identical
checks run once, results are cached, and a client that disconnects leaves the queue. The queue needs no limit: there
are at most as many checks as connections.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

LONGEST_PASSWORD = 72  # bytes; bcrypt ignores the rest, and its library raises an error
_CACHED = 256  # correct passwords, and the same number of wrong ones


@dataclass(eq=False)
class _Check:
    password: bytes
    hashed: bytes
    padding: tuple[bytes, ...]
    result: asyncio.Future[bool]
    waiting: int = 0
    is_running: bool = False
    networks: set[str] = field(default_factory=set)  # the queues that contain it


class PasswordChecks:
    """The queues of checks and a cache of their results.

    Results survive a configuration reload, because the key is a keyed digest of user, hash and password. The password
    itself is never stored.
    """

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._right: OrderedDict[bytes, bool] = OrderedDict()
        self._wrong: OrderedDict[bytes, bool] = OrderedDict()  # separate, so that guesses never evict right passwords
        self._pending: dict[bytes, _Check] = {}
        self._queues: OrderedDict[str, dict[bytes, _Check]] = OrderedDict()  # by network, next in turn first
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="bcrypt")
        self._worker: asyncio.Task[None] | None = None

    def recall(self, user: str, password: bytes, hashed: bytes) -> bool | None:
        """Return the cached result of an earlier check, if any."""
        if len(password) > LONGEST_PASSWORD:
            return False
        key = self._digest(user, password, hashed)
        for results in (self._right, self._wrong):
            if key in results:
                results.move_to_end(key)
                return results[key]
        return None

    async def check(self, user: str, password: bytes, hashed: bytes, padding: tuple[bytes, ...], address: str) -> bool:
        """Return whether the password matches the hash. If not, the `padding` hashes are checked and ignored."""
        known = self.recall(user, password, hashed)
        if known is not None:
            return known
        key, network = self._digest(user, password, hashed), _network(address)
        check = self._pending.get(key)
        if check is None:
            future = asyncio.get_running_loop().create_future()
            check = self._pending[key] = _Check(password, hashed, padding, future)
        # Also if another network already waits for this check: that queue may be longer.
        if network not in check.networks and not check.is_running:
            check.networks.add(network)
            self._queues.setdefault(network, {})[key] = check
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())
        check.waiting += 1
        try:
            return await asyncio.shield(check.result)
        finally:
            check.waiting -= 1
            if not check.waiting and not check.is_running:
                self._dequeue(key, check)
                self._pending.pop(key, None)

    async def _work(self) -> None:
        try:
            await self._empty_queues()
        except asyncio.CancelledError:  # server shutdown
            self._queues.clear()
            self._pending.clear()
            raise

    async def _empty_queues(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queues:
            network, queue = next(iter(self._queues.items()))
            self._queues.move_to_end(network)
            key, check = next(iter(queue.items()))
            self._dequeue(key, check)
            check.is_running = True
            right = await loop.run_in_executor(self._executor, _matches, check.password, check.hashed, check.padding)
            del self._pending[key]
            results = self._right if right else self._wrong
            results[key] = right
            if len(results) > _CACHED:
                results.popitem(last=False)
            check.result.set_result(right)

    def _dequeue(self, key: bytes, check: _Check) -> None:
        for network in check.networks:
            queue = self._queues.get(network, {})
            queue.pop(key, None)
            if not queue:
                self._queues.pop(network, None)

    def _digest(self, user: str, password: bytes, hashed: bytes) -> bytes:
        return hmac.digest(self._key, b"\0".join((user.encode(), hashed, password)), "sha256")


def _matches(password: bytes, hashed: bytes, padding: tuple[bytes, ...]) -> bool:
    import bcrypt  # loaded only if users are configured

    try:
        if bcrypt.checkpw(password, hashed):
            return True
        for other in padding:
            bcrypt.checkpw(password, other)
    except ValueError:  # a NUL byte in the password
        pass
    return False


def _network(address: str) -> str:
    """Return the network that shares a queue. An IPv6 client can use a whole /64 of addresses."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
