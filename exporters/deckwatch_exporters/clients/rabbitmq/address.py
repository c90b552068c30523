"""The address of a RabbitMQ server and the virtual host: the forms of URL that a target may have.

https://www.rabbitmq.com/docs/uri-spec, and the schemes of kombu.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

_FORM = "amqp://[user:password@]host[:port][/vhost], or amqps:// for TLS"
#: Whether it is over TLS, and the default port.
SCHEMES = {
    "amqp": (False, 5672),
    "amqps": (True, 5671),
    "pyamqp": (False, 5672),
}
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\[\]:,;]*))(?::([0-9]{1,5}))?")


@dataclass(frozen=True)
class Address:
    """A parsed URL. Its `repr` and `str` contain no secret."""

    host: str
    port: int
    tls: bool = False
    vhost: str = "/"
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_amqp(url: str) -> bool:
    return url.partition("://")[0] in SCHEMES


def parse_amqp(url: str) -> Address:
    """Parse a URL. Raises ValueError with the right form, without any part of the URL, which can contain a password.

    `//` at the end is the virtual host `/`, as in kombu. Options after `?` are those of other clients.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"a URL such as {_FORM}") from None
    if not is_amqp(url):
        raise ValueError(f"a URL of the form {_FORM}")
    if "#" in url or "@" in parts.path + parts.query or "/" in parts.path[1:].rstrip("/"):
        # Otherwise a part of the password would become a host, a virtual host or an option.
        raise ValueError("#, /, ? and @ in a user, password or virtual host written as %23, %2F, %3F and %40")
    tls, port = SCHEMES[parts.scheme]
    credentials, _, where = parts.netloc.rpartition("@")
    username, _, password = (unquote(part) for part in credentials.partition(":"))
    if "," in where or ";" in url:
        raise ValueError("one host: add a target for each node, or name a load balancer")
    found = _HOST.fullmatch(where)
    if found is None:
        raise ValueError(f"a host, or host:port, in {_FORM}")
    port = int(found[3]) if found[3] else port
    if not 1 <= port <= 65535:
        raise ValueError("a port between 1 and 65535")
    host = found[1] or unquote(found[2] or "") or "localhost"
    return Address(host, port, tls, unquote(parts.path[1:]) or "/", username, password)
