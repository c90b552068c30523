"""Parts of `exporters.business` that the converters of SQL exporters share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from deckwatch.config.metric_names import LABEL, NAME, RESERVED_LABELS, RESERVED_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .conversion import Conversion


def metric(
    found: Conversion,
    seen: set[str],
    line: int,
    name: str,
    kind: str,
    help_text: str,
    labels: Sequence[str],
    value: str,
) -> dict[str, Any] | None:
    """A metric of the config under its old name; None, with a note, if that is not possible.

    `seen` are the names of the target's metrics so far.
    """
    if name in seen:
        found.lost(line, f"{name}: a second query of the same database. Combine the two with UNION ALL.")
        return None
    if not NAME.fullmatch(name):
        found.lost(line, f"{name!r} is not a metric name")
        return None
    if name.startswith(RESERVED_NAMES):
        found.lost(line, f"{name}: Deckwatch uses names that start with {', '.join(RESERVED_NAMES)}")
        return None
    if wrong := next((it for it in labels if not LABEL.fullmatch(it) or it in RESERVED_LABELS), None):
        found.lost(line, f"{name}: the label {wrong!r} is invalid, or set by Deckwatch or Prometheus. Rename it.")
        return None
    if len(set(labels)) != len(labels):
        found.lost(line, f"{name}: it has the same label twice")
        return None
    seen.add(name)
    # Only a counter may end with _total, so the name decides: dashboards and rules depend on it.
    chosen = "counter" if name.endswith("_total") else "gauge"
    if chosen != kind:
        found.changed(line, f"{name} becomes a {chosen} to keep its name")
    made: dict[str, Any] = {"name": name, "type": chosen}
    if help_text:
        made["help"] = escaped(help_text[:1000])
    if labels:
        made["labels"] = list(labels)
    if value != "value":
        made["value"] = value
    return made


def source(found: Conversion, line: int, name: str, url: str) -> dict[str, str]:
    """The keys of a target that name its database. Passwords become references to environment variables."""
    variable = re.sub(r"\W", "_", name).upper()
    if url.startswith("env:"):
        found.changed(line, f"{name}: ${url[4:]} has to hold the DSN of a PostgreSQL database; else use sqlalchemy")
        return {"dsn": f"${{{url[4:]}}}"}
    if url.startswith("file:"):
        found.changed(line, f"{name}: {url[5:]} has to hold the DSN of a PostgreSQL database; else use sqlalchemy_file")
        return {"dsn_file": url[5:]}
    if re.match(r"sqlite3?:///.", url):
        return {"sqlite": escaped(url.partition(":///")[2].partition("?")[0])}
    if not re.match(r"(postgres(ql)?|pgx)(\+\w+)?://", url):
        found.changed(line, f"{name}: set ${variable}_URL to the SQLAlchemy URL of the database")
        return {"sqlalchemy": f"${{{variable}_URL}}"}
    try:
        parts = urlsplit(re.sub(r"^[^:]+", "postgresql", url))
    except ValueError:
        parts = None
    if parts is None or "password=" in url or "@" in parts.path or "#" in url or "{" in url:
        found.changed(line, f"{name}: set ${variable}_DSN to the DSN of the database. It is not copied.")
        return {"dsn": f"${{{variable}_DSN}}"}
    account, has_account, hosts = parts.netloc.rpartition("@")
    user, has_password, _ = account.partition(":")
    without = urlunsplit(parts._replace(netloc=f"{user}{has_account}{hosts}"))
    if not has_password:
        return {"dsn": without}
    found.changed(line, f"{name}: set ${variable}_PASSWORD to the password of the database. It is not copied.")
    return {"dsn": without, "password": f"${{{variable}_PASSWORD}}"}


def selected(query: str, columns: Mapping[str, str], quote: bool = True) -> str:
    """A query over the rows of `query`: `columns` maps each name to its SQL expression."""
    shown = ", ".join(f"{expression} AS {column(name, quote)}" for name, expression in columns.items())
    return escaped(f"SELECT {shown}\nFROM (\n{_bare(query)}\n) AS figures")


def column(name: str, quote: bool = True) -> str:
    return '"' + name.replace('"', '""') + '"' if quote else name


def literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def plain(query: str) -> str:
    """The query without a semicolon at its end, escaped for the config."""
    return escaped(_bare(query))


def _bare(query: str) -> str:
    return "\n".join(line.rstrip() for line in query.strip().rstrip(";").rstrip().splitlines())


def escaped(value: str) -> str:
    """Text in which the config does not fill in environment variables."""
    return re.sub(r"\$(?=[${])", "$$", value)


def every(found: Conversion, line: int, interval: str) -> dict[str, str]:
    """The `schedule` of an interval such as 30 or 1m30s; none, with a note, if there is no such schedule."""
    if interval in ("", "0", "0s"):
        return {}
    if interval.isascii() and interval.isdigit():
        return {"schedule": f"{interval}s"}
    if re.fullmatch(r"([0-9]+(\.[0-9]+)?[hmsd])+", interval, re.ASCII) and re.match(r"[0-9.hmd]*[1-9]", interval):
        return {"schedule": interval}
    found.lost(line, f"the interval {interval}. The query runs every 60 seconds.")
    return {}


def can_quote(keys: Mapping[str, str]) -> bool:
    """Whether the database of a target takes names in double quotes."""
    return "sqlalchemy" not in keys
