"""Protocol counters, from /proc/net/netstat, snmp and snmp6 (Documentation/networking/snmp_counter.rst)."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from deckwatch.config import Settings
from deckwatch.metric import MetricPattern

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metric import Metric, Sample

NETSTAT = MetricPattern("node_netstat_*", "unknown", "Protocol statistic {}.")

_PROTOCOL6 = re.compile(r"(Ip6|Icmp6|Udp6|UdpLite6)(.+)")


class NetstatSettings(Settings):
    """`fields`: a regular expression for what is exported, `<protocol>_<field>`."""

    fields: re.Pattern[str] = re.compile(
        r"^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)"
        r"|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)"
        r"|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab|MaxConn)"
        r"|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$"
    )


class Netstat:
    def __init__(self, paths: Paths, settings: NetstatSettings) -> None:
        self._folder = paths.in_proc("net")
        self._wanted = settings.fields
        self._metrics: dict[str, Metric | None] = {}  # None for what is not wanted

    def collect(self) -> Iterator[Sample]:
        fields = parse_netstat(read_text(f"{self._folder}/netstat"))
        fields.update(parse_netstat(read_text(f"{self._folder}/snmp")))
        with contextlib.suppress(FileNotFoundError):  # without IPv6 there is no such file
            fields.update(parse_snmp6(read_text(f"{self._folder}/snmp6")))
        for name, value in fields.items():
            metric = self._metrics.get(name)
            if metric is None and name not in self._metrics:
                metric = self._metrics[name] = NETSTAT.named(name) if self._wanted.search(name) else None
            if metric is not None:
                yield metric(int(value))


def parse_netstat(text: str) -> dict[str, str]:
    """Figures by `<protocol>_<field>`: each protocol has a line of names and a line of figures. Raises ValueError."""
    fields: dict[str, str] = {}
    lines = [line for line in text.split("\n") if line]
    if len(lines) % 2:
        raise ValueError("/proc/net/netstat: a line of names without a line of figures")
    for names, figures in zip(lines[::2], lines[1::2], strict=True):
        protocol, *columns = names.split()
        figures_of, *values = figures.split()
        if protocol != figures_of or len(columns) != len(values):
            raise ValueError(f"/proc/net/netstat: names and figures of {protocol!r} do not fit together")
        prefix = protocol.removesuffix(":") + "_"
        for column, value in zip(columns, values, strict=True):
            fields[prefix + column] = value
    return fields


def parse_snmp6(text: str) -> dict[str, str]:
    """Figures by `<protocol>_<field>`: `Ip6InOctets 5` is `Ip6_InOctets`."""
    fields = {}
    for line in text.split("\n"):
        name, _, value = line.partition(" ")
        match = _PROTOCOL6.match(name.strip())
        if match is not None:
            fields[f"{match[1]}_{match[2]}"] = value.strip()
    return fields
