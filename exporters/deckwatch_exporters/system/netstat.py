"""Protocol counters, from /proc/net/netstat, snmp and snmp6 (Documentation/networking/snmp_counter.rst)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from deckwatch.exporter import MetricPattern, NotAvailable, Pattern, Settings

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Metric, Sample

NETSTAT = MetricPattern("node_netstat_*", "unknown", "Protocol statistic {}.")


class NetstatSettings(Settings):
    """`fields`: a regular expression for what is exported, `<protocol>_<field>`."""

    fields: Pattern = Pattern(
        r"^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)"
        r"|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)"
        r"|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab|MaxConn)"
        r"|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$"
    )


class Netstat:
    def __init__(self, paths: Paths, settings: NetstatSettings) -> None:
        self._folder = paths.in_proc("net")
        self._wanted = settings.fields
        # What is wanted is decided once for each line of names, not for each of some 400 fields on every run.
        self._columns: dict[str, tuple[tuple[int, str, Metric], ...]] = {}
        self._fields6: dict[str, Metric | None] = {}  # None for what is not wanted

    def collect(self) -> Iterator[Sample]:
        # By name: a field that came twice would be one series twice.
        samples: dict[str, Sample] = {}
        try:
            for file in ("netstat", "snmp"):
                for names, figures in parse_netstat(read_text(f"{self._folder}/{file}"), f"/proc/net/{file}"):
                    for column, name, metric in self._wanted_of(names):
                        samples[name] = metric(_figure(figures[column], name))
        except FileNotFoundError:
            raise NotAvailable from None
        with contextlib.suppress(FileNotFoundError):  # without IPv6 there is no such file
            for name, text in parse_snmp6(read_text(f"{self._folder}/snmp6")).items():
                if name not in self._fields6:
                    self._fields6[name] = NETSTAT.named(name) if self._wanted.search(name) else None
                wanted = self._fields6[name]
                if wanted is not None:
                    samples[name] = wanted(_figure(text, name))
        yield from samples.values()

    def _wanted_of(self, names: str) -> tuple[tuple[int, str, Metric], ...]:
        wanted = self._columns.get(names)
        if wanted is None:
            wanted = self._columns[names] = tuple(
                (column, name, NETSTAT.named(name))
                for column, name in enumerate(field_names(names))
                if self._wanted.search(name)
            )
        return wanted


def parse_netstat(text: str, file: str) -> list[tuple[str, list[str]]]:
    """Each protocol's line of names, as it is, and its figures. Raises ValueError where the two do not fit together."""
    lines = [line for line in text.split("\n") if line]
    if len(lines) % 2:
        raise ValueError(f"{file}: {lines[-1][:80]!r} is a line of names without a line of figures")
    protocols = []
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        protocol, *figures = values.split(" ")
        if not names.startswith(f"{protocol} ") or names.count(" ") != len(figures):
            raise ValueError(f"{file}: names {names[:40]!r} and figures {values[:40]!r} do not fit together")
        protocols.append((names, figures))
    return protocols


def field_names(names: str) -> list[str]:
    """`<protocol>_<field>` for each field of a line of names: `Tcp: MaxConn InSegs`."""
    protocol, *fields = names.split(" ")
    prefix = protocol.removesuffix(":") + "_"
    return [prefix + field for field in fields]


def parse_snmp6(text: str) -> dict[str, str]:
    """Figures by `<protocol>_<field>`: `Ip6InOctets 5` is `Ip6_InOctets`. Lines of anything else are left out."""
    fields = {}
    for line in text.split("\n"):
        words = line.split()
        if len(words) != 2:
            continue
        protocol, six, field = words[0].partition("6")
        if six and field:
            fields[f"{protocol}6_{field}"] = words[1]
    return fields


def _figure(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"/proc/net: {name} is {text[:40]!r}, not a whole number") from None
