"""DSNs of PostgreSQL as settings."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from deckwatch.exporter import Secret

from .libpq import libpq_form


def _checked(dsn: Secret) -> Secret:
    value = libpq_form(dsn.get_secret_value())
    if not re.match(r"postgres(ql)?://|\s*\w+\s*=", value):
        raise ValueError("a DSN such as postgresql://user@host:5432/database, or host=... user=... dbname=...")
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
