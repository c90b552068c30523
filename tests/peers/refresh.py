"""Refresh the tables of the peers' metrics: `python tests/peers/refresh.py CHECKOUT...`, with `tests` in PYTHONPATH.

A checkout is a folder with a peer's source, named after its repository: `node_exporter`, `redis_exporter` and so on.
Each table `<peer>.tsv` lists the name, type, label names and collector of each metric, and whether the peer exports it
by default (`on`) or only where its collector or flag is switched on (`off`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from peers.go_source import Call, Declared, GoFile, GoPackage, enclosed, strings_in

FOLDER = Path(__file__).parent
HEADER = "name\ttype\tlabels\tcollector\tdefault\n"


class PeerMetric(NamedTuple):
    name: str
    type: str
    labels: str  # joined by commas
    collector: str  # the flag, for redis_exporter
    default: str  # on, off


def table(peer: str) -> list[PeerMetric]:
    """The committed table of a peer."""
    lines = (FOLDER / f"{peer}.tsv").read_text().splitlines()
    return [PeerMetric(*line.split("\t")) for line in lines[1:]]


def _row(declared: Declared, collector: str, default: str) -> PeerMetric:
    return PeerMetric(declared.name, declared.type, ",".join(declared.labels), collector, default)


def node_exporter(checkout: Path) -> Iterator[PeerMetric]:
    """What the source declares with constant names, and the expected output of the peer's own end-to-end test.

    The output has the metrics that are named after fields of the kernel. Where both have a metric, the types must be
    the same. A metric of the output belongs to the collector that declares it or has the longest common prefix.
    """
    package = GoPackage(checkout / "collector")
    collectors = {_subject(file): known for file in package.files for known in _registered(file)}
    by_name = {name: (name, default) for name, default in collectors.values()}
    prefixes: dict[str, tuple[str, str]] = {}
    declared: dict[str, list[PeerMetric]] = {}
    for file in package.files:
        known = collectors.get(_subject(file), ("", "on"))
        for metric in (*file.declarations(), *_by_field(file)):
            declared.setdefault(metric.name, []).append(_row(metric, *known))
        for call in file.calls("BuildFQName"):
            subsystem = file.string(call.arguments[1])
            if subsystem and file.string(call.arguments[2]) is None:
                prefixes[f"node_{subsystem}_"] = known
    for metric in from_exposition((checkout / "collector/fixtures/e2e-output.txt").read_text()):
        source = declared.setdefault(metric.name, [])
        if any(it.type != metric.type for it in source):
            raise SystemExit(f"node_exporter: {metric.name} is a {metric.type} in the output, not a {source[0].type}")
        if not any(set(metric.labels) <= set(it.labels.split(",")) for it in source):
            start = max((it for it in prefixes if metric.name.startswith(it)), key=len, default="")
            subject = metric.name.split("_")[1]
            source.append(_row(metric, *prefixes.get(start, by_name.get(subject, (subject, "on")))))
    for rows in declared.values():
        yield from rows


def _registered(file: GoFile) -> Iterator[tuple[str, str]]:
    for call in file.calls("registerCollector"):
        name = file.string(call.arguments[0])
        if name is not None:
            yield name, "on" if call.arguments[1] == "defaultEnabled" else "off"


def _subject(file: GoFile) -> str:
    """Files of one collector share the beginning of their names: `cpu_common.go`, `cpu_linux.go`."""
    return re.sub(r"(_common|_linux|_rtnl_linux)?\.go$", "", file.path.name)


def _by_field(file: GoFile) -> Iterator[Declared]:
    """What three collectors declare in loops over the names of fields."""
    if file.path.name == "powersupplyclass_linux.go":
        figures, _, texts = file.text.partition("map[string]string")
        field = re.compile(r'"(\w+)":\s+powerSupply\.\w+,')
        for name in field.findall(figures):
            yield Declared(f"node_power_supply_{name}", "gauge", ("power_supply",))
        yield Declared("node_power_supply_info", "gauge", tuple(field.findall(texts)))
    if file.path.name == "dmi.go":
        yield Declared("node_dmi_info", "gauge", tuple(re.findall(r'"(\w+)":\s+dmi\.', file.text)))
    if file.path.name == "netclass_linux.go":
        for name, kind in re.findall(r'getFieldDesc\("(\w+)"\),[^,]+, prometheus\.(\w+)Value', file.text):
            yield Declared(f"node_network_{name}", kind.lower(), ("device",))


def name_of(family: Metric, declared: Container[str]) -> str:
    """The name under which a parsed family was declared: the parser takes `_total` off the names of counters."""
    total = f"{family.name}_total"
    return total if family.type == "counter" and total in declared else family.name


def from_exposition(exposition: str) -> Iterator[Declared]:
    """The metrics of an expected output, in which some moving values are left out but not their types."""
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)", exposition, re.MULTILINE))
    labels: dict[str, dict[str, None]] = {}
    for family in text_string_to_metric_families(exposition):
        name = name_of(family, types)
        for sample in family.samples:
            labels.setdefault(name, {}).update(dict.fromkeys(sorted(sample.labels)))
    for name, kind in types.items():
        network_bytes = re.fullmatch(r"node_network_(receive|transmit)_(bytes|packets)_total", name)
        if name.startswith("node_") and (name in labels or network_bytes) and not name.startswith("node_exporter_"):
            known = labels.get("node_network_receive_errs_total" if network_bytes else name, {})
            without = {"le", "quantile"} if kind in ("histogram", "summary") else set()
            yield Declared(
                name, "unknown" if kind == "untyped" else kind, tuple(it for it in known if it not in without)
            )


#: Flags of redis_exporter by the file that holds what they switch on.
_REDIS_FLAG_OF_FILE = {
    "clients.go": "export-client-list",
    "key_groups.go": "check-key-groups",
    "keys.go": "check-keys",
    "lua.go": "script",
    "modules.go": "include-modules-metrics",
    "rdb.go": "include-rdb-file-size-metric",
    "search_indexes.go": "include-search-indexes-metrics",
    "streams.go": "check-streams",
    "tile38.go": "is-tile38",
}
#: And by the name of the metric, where the file holds what is on as well.
_REDIS_FLAG_OF_METRIC = {
    "config_key_value": "include-config-metrics",
    "config_value": "include-config-metrics",
    "exporter_last_scrape_ping_time_seconds": "ping-on-connect",
    "keys_count": "count-keys",
    "last_key_groups_scrape_duration_milliseconds": "",
    "sentinel_peer_info": "include-sentinel-peer-info",
    "total_system_memory_bytes": "include-system-metrics",
}
#: Fields of INFO that only a flag's own command returns.
_REDIS_FLAG_OF_PREFIX = {
    "bf_": "include-modules-metrics",
    "json_": "include-modules-metrics",
    "search_": "include-modules-metrics",
    "tile38_": "is-tile38",
}


def redis_exporter(checkout: Path) -> Iterator[PeerMetric]:
    """The maps of INFO's fields, the descriptions with their labels, and the calls that register a metric."""
    package = GoPackage(checkout / "exporter")
    package.strings["Namespace"] = ""  # a flag, `redis` by default
    types: dict[str, str] = {}
    labels: dict[str, tuple[str, ...]] = {}
    flags: dict[str, str] = {}
    for file in package.files:
        for field, kind in (("metricMapGauges", "gauge"), ("metricMapCounters", "counter")):
            for start in re.finditer(rf"{field}:\s*map\[string\]string\{{", file.text):
                inside, _ = enclosed(file.text, start.end() - 1)
                types |= dict.fromkeys(re.findall(r':\s*"(\w+)"', inside), kind)
            types |= dict.fromkeys(re.findall(rf'{field}\["\w+"\] = "(\w+)"', file.text), kind)
        for name, description in re.findall(r'^\s*"(\w+)":\s*\{(txt: .*)\},$', file.text, re.MULTILINE):
            labels[name] = tuple(strings_in(description.partition("lbls:")[2]))
            types.setdefault(name, "gauge")
        for call in file.calls("createMetricDescription"):
            added = re.findall(rf'append\({re.escape(call.arguments[1])}, "(\w+)"\)', file.text)
            created = file.string(call.arguments[0])
            loop = re.search(r"range (\[\]string\{[^}]*\}) \{\s*e\.$", call.before)
            for name in (created,) if created else file.labels(loop[1]) or () if loop else ():
                labels[name] = (*(file.labels(call.arguments[1]) or ()), *added)
        for call in file.calls(r"registerConst\w+"):
            registered = file.string(call.arguments[1])
            if registered is None:
                continue
            types[registered] = _redis_type(call)
            if file.path.name in _REDIS_FLAG_OF_FILE:
                flags[registered] = _REDIS_FLAG_OF_FILE[file.path.name]
        # Written for the names of a few settings: fmt.Sprintf("config_%s", ...).
        for settings in re.findall(r"map\[string\]bool\{([^}]*)\}\[strKey\] \{", file.text):
            types |= dict.fromkeys((f"config_{name.replace('-', '_')}" for name in strings_in(settings)), "gauge")
        for metric in file.declarations():
            types[metric.name], labels[metric.name] = metric.type, metric.labels
    if "latest_fork_usec" in types:
        types["latest_fork_seconds"] = types.pop("latest_fork_usec")
    for name, kind in types.items():
        prefix = next((flag for start, flag in _REDIS_FLAG_OF_PREFIX.items() if name.startswith(start)), "")
        flag = _REDIS_FLAG_OF_METRIC.get(name, flags.get(name, prefix))
        yield PeerMetric(f"redis_{name}", kind, ",".join(labels.get(name, ())), flag, "off" if flag else "on")
    yield PeerMetric("redis_cluster_*", "gauge", "", "", "on")  # includeMetric() lets every such field through


def _redis_type(call: Call) -> str:
    if call.function == "registerConstMetric":
        return "counter" if "prometheus.CounterValue" in call.arguments else "gauge"
    return call.function.removeprefix("registerConst").removeprefix("Metric").lower()


def postgres_exporter(checkout: Path) -> Iterator[PeerMetric]:
    """What the collectors declare, the map of columns, and the exporter's own."""
    constants = GoPackage(checkout / "config")
    defaults = {
        constants.strings[name]: "on" if enabled == "true" else "off"
        for file in constants.files
        for name, enabled in re.findall(r"(Collector\w+):\s+(true|false),", file.text)
    }
    for file in GoPackage(checkout / "collector", constants).files:
        collector, default = "collector", "on"
        for call in file.calls("registerCollector"):
            if found := file.string(call.arguments[0]):
                collector, default = found, defaults[found]
        for metric in file.declarations():
            yield _row(metric, collector, default)
    yield PeerMetric(
        "pg_settings_*", "gauge", "", "settings", defaults["settings"]
    )  # named after the server's settings
    package = GoPackage(checkout / "exporter", constants)
    package.lists["labels"] = ["server"]  # ServerLabels
    for file in package.files:
        for metric in file.declarations():
            yield _row(metric, "exporter", "on")
        for namespace, columns in re.findall(
            r'"(\w+)": \{\s*map\[string\]ColumnMapping\{(.*?)\n\t\t\}', file.text, re.DOTALL
        ):
            usages = re.findall(r'"(\w+)":\s+\{(LABEL|COUNTER|GAUGE),', columns)
            for column, usage in usages:
                if usage != "LABEL":
                    labels = ",".join(["server", *(name for name, other in usages if other == "LABEL")])
                    yield PeerMetric(f"{namespace}_{column}", usage.lower(), labels, "exporter", "on")


def pgbouncer_exporter(checkout: Path) -> Iterator[PeerMetric]:
    """The maps of SHOW's columns, and what is declared beside them, which is all gauges."""
    for file in GoPackage(checkout).files:
        file.strings["namespace"] = "pgbouncer"  # a parameter
        for metric in file.declarations(type_if_unknown="gauge"):
            yield _row(metric, "", "on")
        for match in re.finditer(r'"(\w+)": \{$', file.text, re.MULTILINE):
            columns, _ = enclosed(file.text, match.end() - 1)
            usages = re.findall(r'"(\w+)":\s+\{(LABEL|COUNTER|GAUGE), "([^"]+)"', columns)
            labels = ",".join(column for column, usage, _ in usages if usage == "LABEL")
            for _, usage, name in usages:
                if usage != "LABEL":
                    yield PeerMetric(f"pgbouncer_{match[1]}_{name}", usage.lower(), labels, match[1], "on")


def process_exporter(checkout: Path) -> Iterator[PeerMetric]:
    """What the source declares; metrics of single threads are behind a flag."""
    for file in GoPackage(checkout / "collector").files:
        for metric in file.declarations():
            thread = "_thread_" in metric.name or "_threads_" in metric.name
            yield _row(metric, "threads" if thread else "", "on")


def blackbox_exporter(checkout: Path) -> Iterator[PeerMetric]:
    """Every prober declares its gauges where it runs; some share the options of a gauge."""
    shared: dict[str, str] = {}
    found: dict[tuple[str, str], PeerMetric] = {}
    files = sorted((it for it in (checkout / "prober").glob("*.go") if not it.stem.endswith("_test")), reverse=True)
    texts = {it.stem: it.read_text() for it in files}
    for text in texts.values():
        shared |= dict(re.findall(r'(\w+GaugeOpts)\s*=\s*prometheus\.GaugeOpts\{\s*Name:\s*"(\w+)"', text))
    declared = re.compile(
        r'prometheus\.NewGauge(?:Vec)?\(\s*(?:prometheus\.GaugeOpts\{\s*Name:\s*"(\w+)"[^}]*\}|(\w+GaugeOpts))'
        r"(?:,\s*\[\]string\{([^}]*)\})?"
    )
    for prober, text in texts.items():
        for name, options, labels in declared.findall(text):
            row = PeerMetric(name or shared[options], "gauge", ",".join(strings_in(labels)), prober, "on")
            found.setdefault((row.name, row.labels), row)
    yield from found.values()


def celery_exporter(checkout: Path) -> Iterator[PeerMetric]:
    """The instruments of prometheus_client; a prefix and further labels are options."""
    text = (checkout / "src" / "exporter.py").read_text()
    declared = re.compile(r'(Counter|Gauge|Histogram)\(\s*f"\{metric_prefix\}(\w+)",.*?\[(.*?)\*self', re.DOTALL)
    for kind, name, labels in declared.findall(text):
        total = "_total" if kind == "Counter" else ""
        yield PeerMetric(f"celery_{name}{total}", kind.lower(), ",".join(strings_in(labels)), "", "on")


PEERS: dict[str, Callable[[Path], Iterator[PeerMetric]]] = {
    "blackbox_exporter": blackbox_exporter,
    "celery-exporter": celery_exporter,
    "node_exporter": node_exporter,
    "pgbouncer_exporter": pgbouncer_exporter,
    "postgres_exporter": postgres_exporter,
    "process-exporter": process_exporter,
    "redis_exporter": redis_exporter,
}


def main(checkouts: list[str]) -> None:
    for checkout in map(Path, checkouts):
        if checkout.name not in PEERS:
            raise SystemExit(f"{checkout}: not a checkout of one of: {', '.join(PEERS)}")
        metrics = sorted(set(PEERS[checkout.name](checkout)))
        path = FOLDER / f"{checkout.name}.tsv"
        path.write_text(HEADER + "".join("\t".join(metric) + "\n" for metric in metrics))
        print(f"{path}: {len(metrics)} metrics")


if __name__ == "__main__":
    main(sys.argv[1:])
