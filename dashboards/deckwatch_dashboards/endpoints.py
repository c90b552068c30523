"""Endpoints: whether probes succeed, how long they take, and when certificates expire."""

from __future__ import annotations

from .dashboard import Dashboard
from .panels import COUNT, RATIO, SECONDS, graph, problem_stat, ratio_graph, row, stat, state_timeline, value_table
from .query import BY_TARGET, TARGET

_LIFETIME = "probe_ssl_earliest_cert_expiry{@target} - time()"
_TWO_WEEKS = 14 * 86400
_NO_TLS = "No endpoint uses TLS."

DASHBOARD = Dashboard(
    name="endpoints",
    title="Endpoints",
    question="Do the probed endpoints answer correctly and quickly, and are their certificates valid for long enough?",
    instances="probe_success",
    targets="probe_success",
    panels=[
        problem_stat(
            "Endpoints failing",
            "Endpoints with a failed last probe. The agent's page and `deckwatch check` show the reason.",
            "sum(probe_success{@target} == bool 0)",
            width=6,
        ),
        problem_stat(
            "Closest to the timeout",
            "Duration of the slowest probe as a share of its timeout. At 100 %, the probe fails.",
            "max(probe_duration_seconds{@target} / probe_timeout_seconds{@target})",
            unit=RATIO,
            bad_from=0.5,
            width=6,
        ),
        problem_stat(
            "Certificates that expire",
            "Endpoints with a certificate that expires within 14 days. Renew it, and check the job that should have.",
            f"sum({_LIFETIME} < bool {_TWO_WEEKS})",
            width=6,
            no_data=_NO_TLS,
        ),
        stat("Endpoints", "Probed endpoints.", COUNT, {"": "count(probe_success{@target})"}, width=6),
        value_table(
            "Endpoints",
            "One row per endpoint, those that fail first. The status code is 0 if there was no response.",
            BY_TARGET,
            {
                "up": (COUNT, "probe_success{@target}"),
                "status code": (COUNT, "probe_http_status_code{@target}"),
                "duration": (SECONDS, "probe_duration_seconds{@target}"),
                "timeout": (SECONDS, "probe_timeout_seconds{@target}"),
                "certificate expires in": (SECONDS, _LIFETIME),
            },
            sort="up",
            descending=False,
        ),
        state_timeline(
            "Outages",
            "Periods in which probes failed, for the endpoints that failed in the time range.",
            {TARGET: "probe_success{@target}"},
        ),
        row("Duration"),
        graph(
            "Duration",
            "Duration of the whole probe. If it rises, compare the phases on the right.",
            SECONDS,
            {TARGET: "probe_duration_seconds{@target}"},
            width=12,
        ),
        graph(
            "Phases",
            "Duration of each phase of HTTP probes: resolve (name servers), connect (network), tls, processing (the "
            "server), transfer (size of the body).",
            SECONDS,
            {f"{TARGET} {{{{phase}}}}": "probe_http_duration_seconds{@target}"},
            width=12,
        ),
        row("Availability and certificates"),
        ratio_graph(
            "Availability",
            "Share of successful probes in the last ten minutes, for the endpoints with the lowest.",
            {TARGET: "avg_over_time(probe_success{@target}[10m])"},
            show_lowest=True,
            width=12,
        ),
        graph(
            "Certificate lifetime",
            "Time until the first certificate that the server sends expires. It should rise at each renewal.",
            SECONDS,
            {TARGET: _LIFETIME},
            show_lowest=True,
            minimum=None,
            width=12,
            no_data=_NO_TLS,
        ),
    ],
)
