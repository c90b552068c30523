"""Is Deckwatch itself well: every collector, the config, and what watching costs?"""

from __future__ import annotations

from .frame import Dashboard
from .shapes import (
    BYTES,
    COUNT,
    RATIO,
    SECONDS,
    TIME,
    events,
    figure,
    grid,
    lines,
    named,
    rates,
    row,
    top,
    trouble,
    up,
    up_over_time,
)

_COLLECTOR = "{{instance}} {{target}} {{collector}}"

DASHBOARD = Dashboard(
    name="deckwatch",
    title="Deckwatch",
    question="Is Deckwatch itself well: every collector, the config, and what watching costs?",
    subject="deckwatch_collector_success",
    panels=[
        up(
            "Agents",
            "Whether Prometheus can scrape each. DOWN: `systemctl status deckwatch`, the port, TLS and password of "
            "web_config.",
            {"{{instance}}": "up{@host}"},
        ),
        named("Version", "Of each agent.", "version", "deckwatch_build_info{@host}"),
        figure(
            "Started",
            "When each agent was started. Lately, and nobody did it: its log, and OOM kills.",
            TIME,
            {"{{instance}}": "process_start_time_seconds{@host} * 1000"},
        ),
        trouble(
            "Collectors failing",
            "What cannot be measured. They are named below; `deckwatch check` says why.",
            "sum(deckwatch_collector_success{@target} == bool 0)",
        ),
        trouble(
            "Config refused",
            "Agents whose last reload failed: they go on with the config from before. `deckwatch check` names file, "
            "line and key.",
            "sum(deckwatch_config_last_reload_successful{@host} == bool 0)",
        ),
        trouble(
            "Series left out",
            "Over `max_series`, or exposed twice. Something has labels without bound: see which collector below.",
            "sum(deckwatch_series_dropped{@target}) + sum(deckwatch_series_conflicting{@host})",
        ),
        row("Collectors"),
        grid(
            "Collectors that fail",
            "Since when there is no figure of theirs; the log below says why.",
            {
                "fails": (COUNT, "(deckwatch_collector_success{@target} == 0) + 1"),
                "last success": (
                    TIME,
                    "deckwatch_collector_last_success_timestamp_seconds{@target} * 1000"
                    " and on (job, instance, target, collector) deckwatch_collector_success{@target} == 0",
                ),
            },
            height=10,
            none="Every collector succeeds.",
        ),
        up_over_time(
            "Collectors of targets",
            "Since when each has failed. All of one target at once: the server; only one: a missing grant or a "
            "timeout.",
            {_COLLECTOR: 'deckwatch_collector_success{@target, target!=""}'},
            height=10,
        ),
        top(
            "Slowest collectors",
            "Duration of the last run. Near the interval: that server is slow, or the collector asks too much.",
            SECONDS,
            _COLLECTOR,
            "deckwatch_collector_duration_seconds{@target}",
        ),
        top(
            "Oldest snapshots",
            "Age of what is served. Over two scrape intervals: the collector hangs; after three runs it is taken away.",
            SECONDS,
            _COLLECTOR,
            "deckwatch_snapshot_age_seconds{@target}",
        ),
        top(
            "Series by collector",
            "What each contributes to Prometheus' storage. `max_series`, `disable` and `top` make it less.",
            COUNT,
            _COLLECTOR,
            "deckwatch_series{@target}",
        ),
        events(
            "What the agent says",
            "Its own log, without the events of what it watches: failures and recoveries of collectors, reloads.",
            '{job="deckwatch"} | json | event!~`postgres\\..*|redis\\..*` | line_format `{{.level}} {{.logger}} '
            "{{.message}}`",
            height=6,
        ),
        row("What watching costs"),
        rates(
            "CPU",
            "Cores that the agent uses. 0.01 is one hundredth of a core.",
            COUNT,
            {"": "process_cpu_seconds_total{@host}"},
            by="instance",
        ),
        lines(
            "Memory",
            "Resident memory of the agent, against the config's threshold for processes.",
            BYTES,
            {"{{instance}}": "process_resident_memory_bytes{@host}"},
            threshold="process_memory_bytes",
        ),
        lines(
            "Open files",
            "As a part of the limit. Rising without end: report it as a fault of Deckwatch.",
            RATIO,
            {"{{instance}}": "process_open_fds{@host} / process_max_fds{@host}"},
        ),
        lines(
            "Scrapes",
            "How long Prometheus waits for /metrics; it is served from memory.",
            SECONDS,
            {"{{instance}}": "scrape_duration_seconds{@host}"},
        ),
        lines(
            "Samples in a scrape",
            "What Prometheus took in.",
            COUNT,
            {"{{instance}}": "scrape_samples_scraped{@host}"},
        ),
        lines(
            "Series left out",
            "Over the budget of a collector, by collector. More memory is not the answer: find the label that grows.",
            COUNT,
            {_COLLECTOR: "deckwatch_series_dropped{@target} > 0"},
            none="No series is left out.",
        ),
        row("Config"),
        figure(
            "Config loaded",
            "When each agent took its config over. Earlier than your last change: it was not reloaded (SIGHUP).",
            TIME,
            {"{{instance}}": "deckwatch_config_last_reload_success_timestamp_seconds{@host} * 1000"},
            width=8,
        ),
        up(
            "Last reload",
            "DOWN: the new file was refused, and the old config is in force.",
            {"{{instance}}": "deckwatch_config_last_reload_successful{@host}"},
            width=8,
        ),
        figure(
            "Thresholds",
            "What the rules and the dashed lines go by.",
            COUNT,
            {
                "CPU": "max(deckwatch_threshold_cpu_ratio{@host})",
                "cache hit ratio": "max(deckwatch_threshold_cache_hit_ratio{@host})",
                "slow query (s)": "max(deckwatch_threshold_slow_query_seconds{@host})",
                "process memory (bytes)": "max(deckwatch_threshold_process_memory_bytes{@host})",
            },
            width=8,
        ),
    ],
)
