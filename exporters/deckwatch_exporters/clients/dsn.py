"""DSNs of PostgreSQL as settings."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from deckwatch.exporter import Secret

from .libpq import libpq_form

_HOST = re.compile(r"(?:\[[^\[\]@]*\]|[^\[\]:@#\s]*)(?::[0-9]*)?")


def checked_dsn(dsn: str, example: str) -> str:
    """A DSN in libpq's form, checked without libpq. Raises ValueError without quoting the DSN."""
    value = libpq_form(dsn)
    _, is_uri, rest = value.partition("://")
    if not re.match(r"postgres(ql)?://|\s*\w+\s*=", value):
        raise ValueError(example)
    if is_uri and not _is_clear(rest):
        raise ValueError("a DSN with : / ? # [ ] @ in a user or password as %3A %2F %3F %23 %5B %5D %40")
    return value


def has_password(dsn: str) -> bool:
    """Whether a DSN in libpq's form contains a password."""
    _, is_uri, rest = dsn.partition("://")
    if not is_uri:
        return re.search(r"(?:^|\s)password\s*=\s*\S", dsn) is not None
    user, has_user, _ = rest.partition("/")[0].partition("@")
    return bool(has_user and user.partition(":")[2]) or re.search(r"[?&]password=[^&]", rest) is not None


def _is_clear(rest: str) -> bool:
    """Whether libpq and all other parsers split the part after the scheme in the same way.

    libpq ends the user and password at the first `@`, others at the last one, or at `/`, `?` or `#` before it.
    """
    authority, _, path = rest.partition("/")
    user, has_user, hosts = authority.partition("@")
    if not has_user:
        hosts = authority
    if any(character in user for character in "?#[] ") and has_user:
        return False
    if "@" in path.partition("?")[0] or "#" in path:
        return False
    return all(_HOST.fullmatch(host) for host in hosts.partition("?")[0].split(",")) and "@" not in hosts


def _checked(dsn: Secret) -> Secret:
    example = "a DSN such as postgresql://user@host:5432/database, or host=... user=... dbname=..."
    value = checked_dsn(dsn.get_secret_value(), example)
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        return Secret(value)  # the first connection reports what to install
    # The messages of libpq quote the DSN, which may hold the password.
    try:
        parameters = conninfo_to_dict(value)
    except ProgrammingError:
        raise ValueError("a DSN that libpq can parse: see its list of connection parameters") from None
    if not re.fullmatch(r"\d*(,\d*)*", str(parameters.get("port") or "")):
        raise ValueError("a DSN with a number as the port (in a password, write : / @ as %3A %2F %40)")
    return Secret(value)


#: A DSN that libpq can parse, in its own form.
Dsn = Annotated[Secret, AfterValidator(_checked)]


def conninfo(dsn: Secret, password: Secret | None) -> str:
    """The DSN with the password, for libpq. Raises ImportError without psycopg."""
    from psycopg.conninfo import make_conninfo

    given = password.get_secret_value() if password else None
    return make_conninfo(dsn.get_secret_value(), **({"password": given} if given else {}))


def require_one_password(dsn: Secret, password: Secret | None) -> None:
    """Raises ValueError if both the DSN and the setting contain a password."""
    if password is not None and password.get_secret_value() and has_password(dsn.get_secret_value()):
        raise ValueError("only one of: a password in dsn, password (or password_file)")
