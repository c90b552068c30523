"""Protocol counters, from /proc/net/netstat, snmp and snmp6 (Documentation/networking/snmp_counter.rst)."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from deckwatch.exporter import MetricPattern, NotAvailable, Pattern, Settings

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_signed
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Metric, Sample, Samples

NETSTAT = MetricPattern("node_netstat_*", "unknown", "Protocol statistic {} from /proc/net.")
_NUMBER = re.compile(r" -?[0-9]")


class NetstatSettings(Settings):
    """`fields`: a regular expression for the fields to export, as `<protocol>_<field>`."""

    fields: Pattern = Pattern(
        r"^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)"
        r"|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)"
        r"|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab|MaxConn)"
        r"|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$"
    )


class Netstat:
    def __init__(self, paths: Paths, settings: NetstatSettings) -> None:
        self._files = KeptFiles()
        self._folder = paths.in_proc("net")
        self._fields = settings.fields
        # Matching some 400 fields on every run is expensive: the exported columns are kept for each line of names.
        self._columns: dict[str, tuple[tuple[int, str, Metric], ...]] = {}
        self._metrics6: dict[str, Metric | None] = {}  # by field of snmp6; None for those that are not exported

    def collect(self) -> Samples:
        malformed = MalformedValues()
        samples: dict[str, Sample] = {}  # by metric name
        try:
            for file in ("netstat", "snmp"):
                path = f"/proc/net/{file}"
                for names, words in parse_netstat(self._files.read(f"{self._folder}/{file}"), path, malformed):
                    for column, name, metric in self._exported(names):
                        _add(samples, metric, words[column], f"{path}: {name}", malformed)
        except FileNotFoundError:
            raise NotAvailable from None
        with contextlib.suppress(FileNotFoundError):  # the file does not exist without IPv6
            for name, word in parse_snmp6(self._files.read(f"{self._folder}/snmp6")):
                if name not in self._metrics6:
                    self._metrics6[name] = NETSTAT.named(name) if self._fields.search(name) else None
                metric6 = self._metrics6[name]
                if metric6 is not None:
                    _add(samples, metric6, word, f"/proc/net/snmp6: {name}", malformed)
        yield from samples.values()
        yield from malformed

    def _exported(self, names: str) -> tuple[tuple[int, str, Metric], ...]:
        exported = self._columns.get(names)
        if exported is None:
            exported = self._columns[names] = tuple(
                (column, name, NETSTAT.named(name))
                for column, name in enumerate(field_names(names))
                if self._fields.search(name)
            )
        return exported


def _add(samples: dict[str, Sample], metric: Metric, word: str, what: str, malformed: MalformedValues) -> None:
    """Add a sample, unless the field has one already or its value is malformed."""
    if metric.name in samples:
        malformed.add(what, word)
        return
    value = parse_signed(word, what, malformed)
    if value is not None:
        samples[metric.name] = metric(value)


def parse_netstat(text: str, file: str, malformed: MalformedValues) -> list[tuple[str, list[str]]]:
    """The line of names of each protocol, and its values.

    A line of names is followed by a line with as many values, and both start with the protocol. Any other line is
    malformed.
    """
    protocols = []
    names = ""
    for line in filter(None, text.split("\n")):
        protocol, *words = line.split(" ")
        if names.startswith(f"{protocol} ") and names.count(" ") == len(words) and _NUMBER.search(line):
            protocols.append((names, words))
            names = ""
            continue
        if names:
            malformed.add(file, names)
        names = line
    if names:
        malformed.add(file, names)
    return protocols


def field_names(names: str) -> list[str]:
    """`<protocol>_<field>` for each field of a line of names (`Tcp: MaxConn InSegs`)."""
    protocol, *fields = names.split(" ")
    prefix = protocol.removesuffix(":") + "_"
    return [prefix + field for field in fields]


def parse_snmp6(text: str) -> list[tuple[str, str]]:
    """Field (`Ip6_InOctets` for `Ip6InOctets`) and value of each line. Other lines are left out."""
    fields = []
    for line in text.split("\n"):
        words = line.split()
        if len(words) != 2:
            continue
        protocol, six, field = words[0].partition("6")
        if six and field:
            fields.append((f"{protocol}6_{field}", words[1]))
    return fields
