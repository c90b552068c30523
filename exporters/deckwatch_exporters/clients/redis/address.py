"""The address of a Redis server: the forms of URL that a target may have."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

_FORMS = (
    "redis://[user:password@]host[:port][/db], rediss:// for TLS, unix:///path/to/socket[?db=n], "
    "or redis+sentinel://host[:port][,host...]/service[/db]"
)
_SCHEMES = {
    "redis": "tcp",
    "valkey": "tcp",
    "rediss": "tls",
    "valkeys": "tls",
    "unix": "unix",
    "redis+unix": "unix",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
}
_PORT = 6379
_SENTINEL_PORT = 26379


@dataclass(frozen=True)
class Address:
    """A parsed URL. Its `repr` and `str` contain no secret."""

    hosts: tuple[tuple[str, int], ...] = ()  # one server, or several Sentinels
    path: str = ""  # of the Unix socket
    service: str = ""  # the name of the master in the Sentinels
    tls: bool = False
    db: int = 0
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        if self.path:
            return self.path
        hosts = ",".join(host_and_port(*host) for host in self.hosts)
        return f"{self.service} (of Sentinel {hosts})" if self.service else hosts


def host_and_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(url: str) -> Address:
    """Parse a URL. Raises ValueError with the right form, without any part of the URL, which can contain a password."""
    if "://" not in url:
        url = f"redis://{url}"
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"a URL such as {_FORMS}") from None
    kind = _SCHEMES.get(parts.scheme)
    if kind is None:
        raise ValueError(f"a URL of the form {_FORMS}")
    if "#" in url or "@" in parts.query or ("@" in parts.path and (kind != "unix" or "@" in parts.netloc)):
        # Otherwise a part of the password would become a host, a path, a database or an option.
        raise ValueError("#, /, ? and @ in a user, password or path written as %23, %2F, %3F and %40")
    credentials, _, where = parts.netloc.rpartition("@")
    username, _, password = (unquote(part) for part in _split_once(credentials))
    options = _options(parts)
    if kind == "unix":
        path = unquote((where if where not in ("", "localhost") else "") + parts.path)
        if not path.startswith("/"):
            raise ValueError("unix:///path/to/socket, with the absolute path of the server's socket")
        return Address(path=path, db=_db(options.get("db", "")), username=username, password=password)
    default = _SENTINEL_PORT if kind == "sentinel" else _PORT
    hosts = tuple(_host(one, default) for one in where.split(","))
    segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    if kind != "sentinel":
        if len(hosts) != 1:
            raise ValueError("one host, or several Sentinels as redis+sentinel://host,host/service")
        if len(segments) > 1:
            raise ValueError("the number of a database after the host, as in redis://host:6379/0")
        db = _db(segments[0] if segments else options.get("db", ""))
        return Address(hosts, tls=kind == "tls", db=db, username=username, password=password)
    if not 1 <= len(segments) <= 2:
        raise ValueError("the name of the service after the Sentinels: redis+sentinel://host:26379/mymaster[/db]")
    return Address(
        hosts,
        service=segments[0],
        tls=parts.scheme.startswith("rediss"),
        db=_db(segments[1] if len(segments) == 2 else options.get("db", "")),
        username=username,
        password=password,
    )


def _split_once(credentials: str) -> tuple[str, str, str]:
    return credentials.partition(":")


def _options(parts: SplitResult) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    if options.keys() - {"db"}:
        # Without the name, which is a part of the password in `?password=A&B`.
        raise ValueError("no option in the URL except db; others, such as the password, have separate keys")
    return options


def _db(text: str) -> int:
    if not re.fullmatch(r"[0-9]{0,9}", text):
        raise ValueError("the number of a database, 0 or above, at the end of the URL")
    return int(text or 0)


def _host(text: str, default: int) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\[\]:]*))(?::([0-9]+))?", text)
    if match is None or not (match[1] or match[2] or match[3]):
        raise ValueError(f"a host, or host:port, in {_FORMS}")
    port = int(match[3]) if match[3] else default
    if not 1 <= port <= 65535:
        raise ValueError("a port between 1 and 65535")
    return match[1] or unquote(match[2]) or "localhost", port
