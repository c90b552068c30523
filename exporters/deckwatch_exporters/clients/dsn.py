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
        return Secret(value)  # the first connection says what to install
    # What libpq says of a wrong one (of a wrong port when it connects) quotes it, and perhaps the password.
    try:
        parameters = conninfo_to_dict(value)
    except ProgrammingError:
        raise ValueError("a DSN that libpq understands: see its list of connection parameters") from None
    if not re.fullmatch(r"\d*(,\d*)*", str(parameters.get("port") or "")):
        raise ValueError("a DSN whose port is a number (write : / @ of a password as %3A %2F %40)")
    return Secret(value)


#: A DSN that libpq understands, in its own form.
Dsn = Annotated[Secret, AfterValidator(_checked)]


def conninfo(dsn: Secret, password: Secret | None) -> str:
    """What libpq takes, the password filled in. Raises ImportError without psycopg."""
    from psycopg.conninfo import make_conninfo

    given = password.get_secret_value() if password else None
    return make_conninfo(dsn.get_secret_value(), **({"password": given} if given else {}))
