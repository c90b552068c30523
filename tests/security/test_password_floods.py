"""A flood of wrong passwords may delay legitimate clients but never locks them out."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import bcrypt
import httpx
import pytest

from agent.serving import FakeWatch, Server, rewrite, serving
from deckwatch.http.basic_auth import BasicAuth, Credentials
from deckwatch.http.limits import Limits
from deckwatch.http.password_checks import PasswordChecks
from deckwatch.http.web_config import WebConfigFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def hashed(password: str, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


def web_file(folder: Path, users: dict[str, str], more: str = "") -> WebConfigFile:
    write_users(folder, users, more)
    return WebConfigFile(folder / "web.yml", check_every=0.0)


def write_users(folder: Path, users: dict[str, str], more: str = "") -> None:
    lines = "".join(f"  {user}: '{value}'\n" for user, value in users.items())
    rewrite(folder / "web.yml", f"{more}basic_auth_users:\n{lines}")


def login(server: Server, user: str, password: str) -> int:
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        return client.get("/metrics", auth=(user, password)).status_code


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The passwords that bcrypt has checked, in order."""
    passwords: list[bytes] = []
    real = bcrypt.checkpw

    def counted(password: bytes, value: bytes) -> bool:
        passwords.append(password)
        return real(password, value)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    return passwords


@contextlib.contextmanager
def guessing(server: Server, connections: int) -> Iterator[list[int]]:
    """Open connections that try one password after another; give the statuses of the responses."""
    statuses: list[int] = []
    stop = threading.Event()

    def guess(number: int) -> None:
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
            tries = 0
            while not stop.is_set():
                tries += 1
                statuses.append(client.get("/metrics", auth=("alice", f"{number}-{tries}")).status_code)

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def test_a_first_login_succeeds_while_others_try_passwords(tmp_path: Path) -> None:
    users = {f"user{number}": f"password{number}" for number in range(8)}
    file = web_file(tmp_path, {"alice": hashed("x", 8), **{user: hashed(word, 8) for user, word in users.items()}})
    with serving(FakeWatch(), file) as server, guessing(server, 24) as guesses:
        assert [login(server, user, word) for user, word in users.items()] == [200] * len(users)
    assert set(guesses) == {401}


def test_forty_first_logins_at_once_are_all_admitted_after_one_check(tmp_path: Path, checked: list[bytes]) -> None:
    with (
        serving(FakeWatch(), web_file(tmp_path, {"alice": hashed("secret", 8)})) as server,
        ThreadPoolExecutor(40) as pool,
    ):
        statuses = list(pool.map(lambda _: login(server, "alice", "secret"), range(40)))
    assert statuses == [200] * 40
    assert checked == [b"secret"]


def test_a_reload_forgets_no_password_whose_hash_has_not_changed(tmp_path: Path, checked: list[bytes]) -> None:
    users = {"alice": hashed("secret"), "bob": hashed("secret")}
    with serving(FakeWatch(), web_file(tmp_path, users)) as server:
        assert login(server, "alice", "secret") == 200
        for number in range(3):
            write_users(tmp_path, users, f"rate_limit: {{interval: 1ms, burst: {1000 + number}}}\n")
            assert login(server, "alice", "secret") == 200
        assert checked == [b"secret"]
        write_users(tmp_path, {**users, "alice": hashed("other")})
        assert login(server, "alice", "secret") == 401
        assert login(server, "alice", "other") == 200


class Gate:
    """A bcrypt that waits until the test releases it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.order: list[bytes] = []
        self.begun = threading.Event()
        self.open = threading.Event()
        monkeypatch.setattr(bcrypt, "checkpw", self._check)

    def _check(self, password: bytes, _hashed: bytes) -> bool:
        self.order.append(password)
        self.begun.set()
        assert self.open.wait(60)
        return password.startswith(b"right")


async def ask(checks: PasswordChecks, password: str, address: str) -> asyncio.Task[bool]:
    task = asyncio.get_running_loop().create_task(checks.check("alice", password.encode(), b"hash", (), address))
    await asyncio.sleep(0)  # it is queued now
    return task


async def begun(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.begun.wait, 60)


def test_addresses_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)

    async def main() -> None:
        checks = PasswordChecks()
        tasks = [await ask(checks, "guess0", "192.0.2.1")]
        await begun(gate)
        tasks += [await ask(checks, f"guess{number}", "192.0.2.1") for number in range(1, 50)]
        tasks += [await ask(checks, f"net{number}", f"2001:db8::{number}") for number in range(1, 50)]
        tasks.append(await ask(checks, "right", "192.0.2.2"))
        gate.open.set()
        assert (await asyncio.gather(*tasks))[-1]

    asyncio.run(main())
    assert gate.order.index(b"right") <= 3
    assert len(gate.order) == 100


def test_a_client_does_not_wait_in_the_queue_of_another_with_the_same_password(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)

    async def main() -> None:
        checks = PasswordChecks()
        tasks = [await ask(checks, f"guess{number}", "192.0.2.1") for number in range(50)]
        await begun(gate)
        tasks += [await ask(checks, "right", address) for address in ("192.0.2.1", "192.0.2.2")]
        gate.open.set()
        assert (await asyncio.gather(*tasks))[-2:] == [True, True]

    asyncio.run(main())
    assert gate.order.index(b"right") <= 2
    assert gate.order.count(b"right") == 1


def test_a_client_that_disconnects_leaves_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    file = web_file(tmp_path, {"alice": hashed("x")})
    with serving(FakeWatch(), file, Limits(sweep=0.05)) as server:
        request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {}\r\n\r\n"
        for number in range(200):
            with server.connect() as client:
                token = httpx.BasicAuth("alice", str(number))._auth_header.removeprefix("Basic ")
                client.sendall(request.format(token).encode())
        assert gate.begun.wait(60)
        waiting = threading.Thread(target=login, args=(server, "alice", "right"))
        waiting.start()
        try:
            deadline = threading.Event()
            for _ in range(600):
                if [check.password for check in file._checks._pending.values() if not check.is_running] == [b"right"]:
                    break
                deadline.wait(0.1)
            else:
                pytest.fail("the checks of clients that left are still waiting")
        finally:
            gate.open.set()
            waiting.join(60)
    assert b"right" in gate.order
    assert len(gate.order) < 200


def rounds(checks: list[bytes]) -> int:
    return sum(2 ** int(value[4:6]) for value in checks)


def test_a_wrong_password_costs_the_same_for_known_and_unknown_users(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[bytes] = []
    real = bcrypt.checkpw

    def counted(password: bytes, value: bytes) -> bool:
        used.append(value)
        return real(password, value)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    costs = {}

    async def main() -> None:
        auth = BasicAuth({"cheap": hashed("a", 4), "dear": hashed("b", 7), "middle": hashed("c", 5)}, PasswordChecks())
        for user in ("cheap", "middle", "dear", "nobody"):
            used.clear()
            assert not await auth.check(Credentials(user, b"wrong"), "192.0.2.1")
            costs[user] = rounds(used)

    asyncio.run(main())
    assert set(costs.values()) == {2**7}


def test_an_unknown_user_with_another_users_password_is_rejected() -> None:
    async def main() -> None:
        auth = BasicAuth({"alice": hashed("secret")}, PasswordChecks())
        for _ in range(2):
            assert await auth.check(Credentials("alice", b"secret"), "192.0.2.1")
            assert not await auth.check(Credentials("mallory", b"secret"), "192.0.2.1")
            assert auth.recall(Credentials("mallory", b"secret")) is not True

    asyncio.run(main())


def test_an_address_with_too_many_connections_loses_only_its_own() -> None:
    limits = Limits(connections=20, idle=60, sweep=0.05)
    with serving(FakeWatch(), limits=limits) as server, contextlib.ExitStack() as open_ones:
        scraper = open_ones.enter_context(server.connect(source="127.0.0.2"))
        for _ in range(60):
            open_ones.enter_context(server.connect())
        assert login(server, "", "") == 200
        scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert scraper.recv(12) == b"HTTP/1.1 200"


def test_a_password_that_bcrypt_would_truncate_is_rejected_with_the_reason(
    tmp_path: Path, checked: list[bytes]
) -> None:
    with serving(FakeWatch(), web_file(tmp_path, {"alice": hashed("x" * 72)})) as server:
        assert login(server, "alice", "x" * 72) == 200
        for user in ("alice", "nobody"):
            with server.client() as client:
                answer = client.get("/metrics", auth=(user, "x" * 73))
            assert answer.status_code == 401
            assert "longer than 72 bytes" in answer.text
    assert checked == [b"x" * 72]
