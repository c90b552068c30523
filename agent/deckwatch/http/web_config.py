"""The exporter-toolkit's web configuration file: TLS, client certificates, users, headers, rate limit.

Files written for the Go exporters work unchanged (format: docs/web-configuration.md of prometheus/exporter-toolkit).
The file is reloaded when it or a certificate changes; if the new version is invalid, the last valid one stays active.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deckwatch.config import ConfigError
from deckwatch.config.load import validated
from deckwatch.config.source import read
from deckwatch.http.basic_auth import BasicAuth
from deckwatch.http.password_checks import PasswordChecks
from deckwatch.http.rate_limit import TokenBucket
from deckwatch.http.tls import server_tls
from deckwatch.http.watched_files import WatchedFiles
from deckwatch.http.web_settings import WebSettings, valid_users

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

_log = logging.getLogger("deckwatch.http")

_CHECK_EVERY = 1.0  # seconds between two checks of the files
_FAILED = "web_config.failed"  # the log event
_STUCK_AFTER = 30.0  # seconds after which a read that has not finished is reported
_CHECK_TIMEOUT = 0.5  # seconds that a request waits for a check


class Rules:
    """The parsed settings of a valid file. Raises ConfigError. Every file read is noted in `seen`."""

    def __init__(self, path: Path, seen: WatchedFiles, checks: PasswordChecks) -> None:
        seen.note(path)
        source = read(path, None, must_be_regular=True)
        values = {} if source.values is None else source.values
        if not isinstance(values, dict):
            source.blame((), "expected keys such as tls_server_config and basic_auth_users")
            raise ConfigError(source.problems)
        values = {key: value for key, value in values.items() if value is not None}  # keys without a value
        values["basic_auth_users"] = valid_users(source, values.get("basic_auth_users", {}))
        settings = validated(source, WebSettings, values, ())
        if source.problems or settings is None:
            raise ConfigError(source.problems)
        tls = settings.tls_server_config
        if tls is not None and not tls.is_enabled:
            tls = None
        self.allowed_sans = frozenset(map(_canonical, tls.client_allowed_sans)) if tls else frozenset()
        self.verifies_clients = tls is not None and tls.client_auth_type == "RequireAndVerifyClientCert"
        self.tls = server_tls(source, path.parent, tls, seen) if tls else None
        # What each connection must satisfy when it is accepted. Users are checked on each request instead.
        self.of_connections = (
            self.tls is not None,
            tls.client_auth_type if tls else "",
            self.tls.client_authorities if self.tls else b"",
            self.allowed_sans,
        )
        self.auth = BasicAuth(settings.basic_auth_users, checks) if settings.basic_auth_users else None
        self.headers = tuple(
            (name.lower().encode("ascii"), value.encode("ascii"))
            for name, value in settings.http_server_config.headers.items()
            if value
        )
        limit = settings.rate_limit
        self.bucket = TokenBucket(limit.interval, limit.burst) if limit.interval else None


def _protection_lost(old: Rules, new: Rules) -> list[str]:
    """Return the protections that the new rules would remove."""
    lost = (
        ("TLS", old.tls is not None and new.tls is None),
        ("all users", old.auth is not None and new.auth is None),
        ("the verification of client certificates", old.verifies_clients and not new.verifies_clients),
        ("the list of allowed client names", bool(old.allowed_sans) and not new.allowed_sans),
    )
    return [what for what, is_lost in lost if is_lost]


class WebConfigFile:
    """The active web configuration. A path of None means no file: plain HTTP without authentication.

    Raises ConfigError at startup. Later, a file that is invalid or would remove a protection is not applied: a file
    that is truncated before it is rewritten must not expose the agent.

    `wrong` is the error of the last attempt to load the file; `loaded` (Unix seconds) is when it last succeeded.
    `on_change()` is called when new rules become active.
    """

    def __init__(self, path: str | Path | None, check_every: float = _CHECK_EVERY) -> None:
        self._path = Path(path) if path is not None else None
        self._check_every = check_every
        self._seen = WatchedFiles()
        self._checks = PasswordChecks()
        self._rules = Rules(self._path, self._seen, self._checks) if self._path is not None else None
        self.on_change: Callable[[], None] = lambda: None
        self.wrong = ""
        self.loaded = time.time()
        self._checked_at = float("-inf")
        self._is_checking = False
        self._is_stuck = False
        self._warned_of: float | None = None  # the expiry that was last logged as passed

    @property
    def is_configured(self) -> bool:
        return self._path is not None

    @property
    def rules(self) -> Rules | None:
        """The active rules; None without a file."""
        return self._rules

    @property
    def is_up_to_date(self) -> bool:
        """Whether the last attempt to load the file succeeded."""
        return not self.wrong and not self._is_stuck

    @property
    def uses_tls(self) -> bool:
        return self._rules is not None and self._rules.tls is not None

    @property
    def authenticates(self) -> bool:
        """Whether clients need a password or a certificate."""
        return self._rules is not None and (self._rules.auth is not None or self._rules.verifies_clients)

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the context for new connections; None for plain HTTP."""
        return self._rules.tls.context if self._rules is not None and self._rules.tls is not None else None

    def certificate_expiry(self) -> float | None:
        """Return when the server's certificate expires, in Unix seconds."""
        return self._rules.tls.expires if self._rules is not None and self._rules.tls is not None else None

    def admits(self, accepted_under: Rules | None, certificate: Mapping[str, Any] | None) -> bool:
        """Return whether a new connection may be used. `accepted_under` are the rules when it was accepted.

        `certificate` is the client's verified certificate from `ssl.getpeercert()`. It must have an allowed name.
        """
        if not self.allows_connection(accepted_under):
            return False
        if self._rules is None or not self._rules.allowed_sans:
            return True
        names = {_canonical(value) for _, value in (certificate or {}).get("subjectAltName", ())}
        return not names.isdisjoint(self._rules.allowed_sans)

    def allows_connection(self, accepted_under: Rules | None) -> bool:
        """Return whether connections accepted under those rules are still acceptable under the active rules."""
        if accepted_under is None or self._rules is None:
            return accepted_under is self._rules
        return accepted_under.of_connections == self._rules.of_connections

    async def refresh(self) -> None:
        """Reload the files if they have changed. Checks at most once per second.

        The check runs in a thread: a hung disk delays one request by half a second and the others not at all.
        """
        now = time.monotonic()
        if self._is_checking and not self._is_stuck and now - self._checked_at > _STUCK_AFTER:
            self._is_stuck = True
            _log.error("%s", self._stuck(), extra={"event": _FAILED})
        if self._path is None or self._is_checking or now - self._checked_at < self._check_every:
            return
        self._checked_at, self._is_checking = now, True
        self._warn_of_expiry()
        loop = asyncio.get_running_loop()
        finished = asyncio.Event()
        seen, checks = self._seen, self._checks

        def done(found: _ChangedFiles | None) -> None:
            self._is_checking = self._is_stuck = False
            if found is not None:
                self._take_over(found)
            finished.set()

        def check() -> None:
            found = None
            try:
                found = _changed_files(self._path, seen, checks) if self._path is not None else None
            finally:
                with contextlib.suppress(RuntimeError):  # the event loop has ended
                    loop.call_soon_threadsafe(done, found)

        threading.Thread(target=check, name="web-config", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(finished.wait(), _CHECK_TIMEOUT)

    def _take_over(self, found: _ChangedFiles) -> None:
        self._seen = found.seen
        self.wrong = found.wrong
        if found.rules is None:
            _log.error("web config not reloaded, the old one stays active: %s", found.wrong, extra={"event": _FAILED})
            return
        lost = _protection_lost(self._rules, found.rules) if self._rules is not None else []
        if lost:
            self.wrong = f"{self._path}: would remove {', '.join(lost)}. Restart Deckwatch to apply it anyway."
            _log.error("web config not reloaded, the old one stays active: %s", self.wrong, extra={"event": _FAILED})
            return
        self._rules = found.rules
        self.loaded = time.time()
        self.on_change()
        _log.info("web config reloaded", extra={"event": "web_config.reloaded"})

    def problems(self) -> tuple[str, ...]:
        """Return the current problems for the status."""
        wrong = f"The web config was not reloaded, the old one stays active: {self.wrong}" if self.wrong else ""
        return tuple(filter(None, (wrong, self._stuck(), self._expired())))

    def _stuck(self) -> str:
        if not self._is_stuck:
            return ""
        return (
            f"{self._path} or a file that it refers to cannot be read: no response for {_STUCK_AFTER:g} s. Changes"
            " have no effect until the read completes. Check the file system."
        )

    def _expired(self) -> str:
        expiry = self.certificate_expiry()
        if expiry is None or expiry > time.time():
            return ""
        when = datetime.fromtimestamp(expiry, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"{self._path}: the TLS certificate expired at {when}. Replace it; Deckwatch reloads it automatically."

    def _warn_of_expiry(self) -> None:
        expired = self._expired()
        if expired and self._warned_of != self.certificate_expiry():
            self._warned_of = self.certificate_expiry()
            _log.warning("%s", expired, extra={"event": "web_config.certificate_expired"})


class _ChangedFiles(NamedTuple):
    seen: WatchedFiles
    rules: Rules | None
    wrong: str


def _changed_files(path: Path, before: WatchedFiles, checks: PasswordChecks) -> _ChangedFiles | None:
    """Load the files if any has changed since `before`; otherwise return None."""
    if not before.has_changed():
        return None
    seen = WatchedFiles()
    try:
        return _ChangedFiles(seen, Rules(path, seen, checks), "")
    except ConfigError as wrong:
        return _ChangedFiles(seen, None, str(wrong))


def _canonical(name: str) -> str:
    """Return a subject alternative name in Go's form. OpenSSL writes IPv6 addresses in full."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name
