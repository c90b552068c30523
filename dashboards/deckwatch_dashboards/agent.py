"""Deckwatch: the state of the agents, their collectors, and what monitoring costs."""

from __future__ import annotations

from .dashboard import Dashboard
from .log_panels import CHOSEN_INSTANCE, log_lines
from .overview import AGENT_UP
from .panels import (
    BYTES,
    COUNT,
    RATIO,
    SECONDS,
    TIME,
    YES_NO,
    graph,
    problem_stat,
    rate_graph,
    ratio_graph,
    row,
    stat,
    state_timeline,
    top_list,
    value_table,
)
from .query import BY_HOST, BY_TARGET, HOST, TARGET, threshold

_BY_COLLECTOR = f"{BY_TARGET}, collector"
_COLLECTOR = f"{TARGET} {{{{collector}}}}"
_SUCCESS = "deckwatch_collector_success{@target}"
# A scrape of the whole agent labels targets with `target`; with service discovery, they have another `exporter`.
_TARGETS = '(deckwatch_collector_success{@host, target!="", target=~"$target"}'
_TARGETS += ' or deckwatch_collector_success{@host, exporter!~"deckwatch|"})'
_RECEIVER = f"{HOST} {{{{destination}}}}"
_NO_RECEIVER = "No receiver of remote write is configured."
_RELOADED = "deckwatch_config_last_reload_successful{@host}"
_WEB_RELOADED = "deckwatch_web_config_last_reload_successful{@host}"

DASHBOARD = Dashboard(
    name="deckwatch",
    title="Deckwatch",
    question="Do all agents and collectors work, is the configuration current, and what does monitoring cost?",
    instances="deckwatch_collector_success",
    panels=[
        problem_stat(
            "Agents down",
            "Agents that Prometheus cannot scrape. Run `systemctl status deckwatch`, then check the port and the TLS "
            "and password settings of web_config.",
            f"sum({AGENT_UP} == bool 0)",
        ),
        problem_stat(
            "Failing collectors",
            "Collectors that failed in their last run; their series are absent. They are listed below; "
            "`deckwatch check` says how to fix them.",
            f"sum({_SUCCESS} == bool 0)",
        ),
        problem_stat(
            "Values not parsed",
            "Values that the last runs of the collectors could not parse and skipped. The agent's log shows the first "
            "ones of each collector.",
            "sum(deckwatch_collector_parse_errors{@target})",
            no_data="No collector reports parse errors.",
        ),
        problem_stat(
            "Refused configurations",
            "Configurations and web configurations that the agents did not accept. They keep the previous one. "
            "`deckwatch check` shows file, line and key.",
            f"sum({_RELOADED} == bool 0) + (sum({_WEB_RELOADED} == bool 0) or vector(0))",
        ),
        problem_stat(
            "Series left out",
            "Series over `max_series`, or exposed by two collectors. Find the collector below and the label that "
            "grows.",
            "sum(deckwatch_series_dropped{@target} or deckwatch_series_conflicting{@host})",
        ),
        stat("Agents up", "Agents that Prometheus can scrape.", COUNT, {"": f"sum({AGENT_UP})"}),
        value_table(
            "Agents",
            "One row per agent, agents that are down first. If an agent was started recently and nobody restarted it, "
            "look at its log and for OOM kills. If the configuration is older than your last change, reload it "
            "(SIGHUP).",
            BY_HOST,
            {
                "up": (COUNT, AGENT_UP),
                "+version": ("", "deckwatch_build_info{@host}"),
                "started": (TIME, 'process_start_time_seconds{@host, service=""} * 1000'),
                "configuration loaded": (
                    TIME,
                    "deckwatch_config_last_reload_success_timestamp_seconds{@host} * 1000",
                ),
                "last reload succeeded": (YES_NO, _RELOADED),
                "certificate expires": (
                    TIME,
                    "deckwatch_web_certificate_expiry_timestamp_seconds{@host} * 1000",
                ),
            },
            sort="up",
            descending=False,
            width=24,
            height=6,
        ),
        row("Collectors"),
        value_table(
            "Failing collectors now",
            "Collectors without current series. The log below says why. If the target is down, only one of its "
            "collectors is listed: the others do not run.",
            _BY_COLLECTOR,
            {
                "fails": (YES_NO, f"({_SUCCESS} == 0) + 1"),
                "last success": (
                    TIME,
                    "deckwatch_collector_last_success_timestamp_seconds{@target} * 1000"
                    f" and on ({_BY_COLLECTOR}) {_SUCCESS} == 0",
                ),
            },
            sort="last success",
            descending=False,
            height=10,
            no_data="All collectors succeed.",
        ),
        state_timeline(
            "Collectors of targets",
            "When collectors failed, for those that failed in the time range. A single one points to a missing grant "
            "or a timeout. A gap means that the target was down.",
            {_COLLECTOR: _TARGETS},
            height=10,
            no_data="No collector of a target failed in the time range.",
        ),
        top_list(
            "Slowest collectors",
            "Duration of the last run. If it is close to the scrape interval, the server is slow or the collector "
            "reads too much.",
            SECONDS,
            _COLLECTOR,
            "deckwatch_collector_duration_seconds{@target}",
        ),
        top_list(
            "Oldest snapshots",
            "Age of the values that are served. Above two scrape intervals, the collector hangs; after three, its "
            "series disappear.",
            SECONDS,
            _COLLECTOR,
            "deckwatch_snapshot_age_seconds{@target}",
        ),
        top_list(
            "Series by collector",
            "Series that each collector adds to Prometheus. `max_series`, `disable` and `top` reduce them.",
            COUNT,
            _COLLECTOR,
            "deckwatch_series{@target}",
        ),
        top_list(
            "Series left out by collector",
            "Series over the collector's budget. Find the label that grows before you raise `max_series`.",
            COUNT,
            _COLLECTOR,
            "deckwatch_series_dropped{@target} > 0",
            no_data="No series is left out.",
        ),
        top_list(
            "Values not parsed by collector",
            "Values that the last run could not parse and skipped. If the server is a new version, report it to "
            "Deckwatch.",
            COUNT,
            _COLLECTOR,
            "deckwatch_collector_parse_errors{@target} > 0",
            no_data="All values were parsed.",
        ),
        stat(
            "Thresholds",
            "Thresholds of deckwatch.yml that alerts and dashed lines use. If agents differ, this is the highest.",
            COUNT,
            {
                "CPU": threshold("cpu_ratio"),
                "cache hit ratio": threshold("cache_hit_ratio"),
                "slow query (s)": threshold("slow_query_seconds"),
                "process memory (bytes)": threshold("process_memory_bytes"),
            },
            width=8,
            height=8,
        ),
        log_lines(
            "Agent log",
            "The agents' own log without events of the targets: collectors that failed or recovered, reloads.",
            f'{{job="deckwatch", {CHOSEN_INSTANCE}}} | json | event!~`postgres\\..*|redis\\..*`'
            " | line_format `{{.level}} {{.logger}} {{.message}}`",
            height=6,
        ),
        row("Remote write"),
        graph(
            "Age of unsent samples",
            "Age of the oldest samples that a receiver has not stored. If it rises, `deckwatch check` says why. No "
            "sample is lost while the queue has room.",
            SECONDS,
            {_RECEIVER: "deckwatch_remote_write_lag_seconds{@host}"},
            no_data=_NO_RECEIVER,
        ),
        rate_graph(
            "Samples sent",
            "Samples that receivers stored, per second.",
            COUNT,
            {"": "deckwatch_remote_write_samples_sent_total{@host}"},
            by=f"{BY_HOST}, destination",
            no_data=_NO_RECEIVER,
        ),
        rate_graph(
            "Samples dropped",
            "Samples that were not sent or that a receiver refused, per second. They are lost; see the runbook "
            "RemoteWriteSamplesDropped.",
            COUNT,
            {"": "deckwatch_remote_write_samples_dropped_total{@host}"},
            by=f"{BY_HOST}, destination, reason",
            no_data=_NO_RECEIVER,
        ),
        row("Cost of monitoring"),
        rate_graph(
            "CPU",
            "Cores that the agent uses. 0.01 is one hundredth of a core. If it is high, look at the slowest "
            "collectors.",
            COUNT,
            {"": 'process_cpu_seconds_total{@host, service=""}'},
            by=BY_HOST,
        ),
        graph(
            "Memory",
            "Resident memory of the agent. If it is high, look at the number of series.",
            BYTES,
            {HOST: 'process_resident_memory_bytes{@host, service=""}'},
            threshold_name="process_memory_bytes",
        ),
        ratio_graph(
            "Open files",
            "Open file descriptors of the agent as a share of its limit. If it rises without end, report a bug of "
            "Deckwatch.",
            {HOST: 'process_open_fds{@host, service=""} / process_max_fds{@host, service=""}'},
        ),
        top_list(
            "CPU by collector",
            "CPU time of each collector's runs, as a share of one CPU. A larger `interval` or `disable` reduces it.",
            RATIO,
            _COLLECTOR,
            "rate(deckwatch_collector_cpu_seconds_total{@target}[$__rate_interval])",
        ),
        graph(
            "Scrape duration",
            "Time until Prometheus has received /metrics. The agent answers from memory, so a long time points to the "
            "network.",
            SECONDS,
            {TARGET: "scrape_duration_seconds{@host}"},
        ),
        graph(
            "Samples per scrape",
            "Samples that Prometheus received. If the number rises without end, look at the series by collector.",
            COUNT,
            {TARGET: "scrape_samples_scraped{@host}"},
        ),
    ],
)
