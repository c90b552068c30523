"""Every module that parses what a target sends has a test with odd values: a new module needs an entry here."""

from __future__ import annotations

import ast
import inspect
import pkgutil
from pathlib import Path

import pytest

import deckwatch_exporters
from services import ROOT

from .system.subsystems import HOST, ON_FILES, files_read, make

#: The modules that each test covers.
TESTS: dict[str, tuple[str, ...]] = {
    "exporters/apps/test_odd_values.py::test_an_odd_key_affects_only_its_metric_and_is_counted": (
        "apps.archive", "apps.collector", "apps.folder", "apps.multiprocess_file", "apps.sums",
    ),
    "exporters/business/test_odd_values.py::test_an_odd_value_affects_only_its_row": (
        "business.collector", "business.rows",
    ),
    "exporters/business/test_odd_values.py::test_an_odd_item_of_a_json_document_costs_no_other_one": (
        "business.sources.json_document",
    ),
    "exporters/business/test_odd_values.py::test_odd_values_of_an_sqlite_file_cost_no_other_row": (
        "business.sources.sqlite_file",
    ),
    "exporters/business/test_odd_values.py::test_an_odd_value_in_redis_costs_no_other_query": (
        "business.sources.redis_commands",
    ),
    "exporters/http_probe/test_odd_values.py::test_an_odd_header_affects_only_its_series_and_is_counted": (
        "http_probe.http",
    ),
    "exporters/http_probe/test_odd_values.py::test_any_damage_to_a_certificate_affects_only_its_series": (
        "http_probe.certificates",
    ),
    "exporters/http_probe/test_odd_values.py::test_any_answer_of_a_name_server_is_a_result": ("http_probe.dns_query",),
    "exporters/http_probe/test_http_probe.py::test_a_malformed_response_fails_the_probe_and_not_the_collector": (
        "http_probe", "http_probe.network",
    ),
    "exporters/http_probe/test_http_probe.py::test_a_conversation_over_tcp_sends_and_expects_lines": (
        "http_probe.tcp",
    ),
    "exporters/pgbouncer/test_odd_rows.py::test_an_odd_field_affects_only_the_series_of_its_row": (
        "pgbouncer", "pgbouncer.figures",
    ),
    "exporters/postgres/test_odd_values.py::test_a_malformed_field_affects_at_most_the_series_of_its_row": (
        "clients.samples", "postgres.activity", "postgres.background", "postgres.configuration", "postgres.database",
        "postgres.locks", "postgres.progress", "postgres.replication", "postgres.schema", "postgres.server",
        "postgres.slow_queries", "postgres.statement_counts", "postgres.statements", "postgres.sticky_top",
        "postgres.tables",
    ),
    "exporters/redis/test_mutations.py::test_a_malformed_info_value_affects_only_its_series": (
        "redis.commands", "redis.fields", "redis.info", "redis.modules", "redis.replication", "redis.server",
        "redis.values",
    ),
    "exporters/redis/test_mutations.py::test_a_malformed_part_of_another_reply_does_not_affect_other_series": (
        "redis.config", "redis.latency",
    ),
    "exporters/redis/test_mutations.py::test_a_malformed_stream_reply_does_not_affect_other_streams": (
        "redis.streams",
    ),
    "exporters/redis/test_more_mutations.py::test_an_odd_field_of_a_client_affects_only_that_client": (
        "redis.clients",
    ),
    "exporters/redis/test_more_mutations.py::test_an_odd_part_of_a_reply_about_a_master_affects_only_that_master": (
        "redis.sentinel",
    ),
    "exporters/redis/test_more_mutations.py::test_an_odd_reply_about_a_key_affects_only_that_key": (
        "redis.key_groups", "redis.keys", "redis.selected_keys",
    ),
    "exporters/redis/test_more_mutations.py::test_an_odd_reply_to_scan_costs_no_other_figure": ("redis.keyspace",),
    "exporters/redis/test_more_mutations.py::test_an_odd_entry_of_the_slow_log_costs_no_other_entry": (
        "redis.slowlog",
    ),
    "exporters/system/test_filesystem_odd_values.py::test_an_odd_field_of_a_mount_affects_only_that_mount": (
        "system.filesystem",
    ),
    "exporters/system/test_malformed_values.py::test_a_malformed_value_affects_only_the_series_that_depend_on_it": (
        "system.kept_files", "system.parse_numbers", "system.paths",
    ),
    "exporters/system/test_systemd.py::test_any_bytes_are_parsed_or_rejected": ("system.dbus_wire",),
    "exporters/system/test_systemd_odd_replies.py::test_an_odd_property_affects_only_its_series_and_is_counted": (
        "system.systemd",
    ),
    "exporters/system/test_timex.py::test_any_value_of_a_field_affects_only_its_series": ("system.timex",),
    "integration/test_queues_odd_messages.py::test_an_odd_message_costs_no_length_of_any_queue": (
        "queues.ages", "queues.message",
    ),
    "exporters/postgres/test_sql_text.py::test_any_text_is_accepted": ("postgres.sql_text",),
    "exporters/queues/test_odd_rows.py::test_an_odd_field_affects_only_its_own_series": (
        "queues.django_tasks", "queues.oban", "queues.pgmq", "queues.postgres_broker", "queues.procrastinate",
        "queues.sql",
    ),
    "exporters/redis/test_resp.py::test_any_input_is_parsed_or_reported_as_an_error": ("clients.redis.resp",),
    "integration/test_queues_auto.py::test_a_command_that_is_not_allowed_costs_only_its_kinds": ("queues.auto",),
    "integration/test_queues_auto.py::test_the_libraries_of_a_postgresql_are_found_by_their_tables": (
        "queues.auto_postgres",
    ),
    "integration/test_queues_celery_events.py::test_odd_events_cost_themselves_alone": (
        "queues.celery_events", "queues.celery_events_labels", "queues.celery_events_losses",
        "queues.celery_events_source", "queues.celery_events_state", "queues.celery_events_tasks",
        "queues.celery_events_workers",
    ),
    "integration/test_queues_celery_workers.py::test_odd_replies_are_reported_and_cost_nothing_else": (
        "queues.celery_workers",
    ),
    "integration/test_queues_odd_messages.py::test_odd_fields_of_the_management_api_are_unknown": (
        "queues.rabbitmq_reader",
    ),
    "integration/test_queues_rabbitmq_faults.py::test_odd_queues_of_the_management_api_cost_only_themselves": (
        "clients.rabbitmq.management", "queues.celery_rabbitmq", "queues.dramatiq_rabbitmq", "queues.rabbitmq",
        "queues.rabbitmq_routes",
    ),
    "integration/test_queues_odd_replies.py::test_an_odd_reply_about_one_queue_costs_no_value_of_another": (
        "queues.arq", "queues.bullmq", "queues.celery", "queues.dramatiq", "queues.huey", "queues.model",
        "queues.redis_broker", "queues.redis_layout", "queues.redis_list", "queues.redis_stream", "queues.rq",
        "queues.saq", "queues.sidekiq",
    ),
}  # fmt: skip

#: Modules that parse no figures of a target: settings and addresses, connections, what only joins other modules, and
#: what `check` and `advise` alone use.
WITHOUT_INPUT = frozenset(
    {
        "apps", "apps.processes", "business", "business.schedule", "business.settings", "business.singleton",
        "business.sources", "business.sources.postgres", "business.sources.sqlalchemy_database", "clients",
        "clients.dsn", "clients.encodings", "clients.libpq", "clients.rabbitmq", "clients.rabbitmq.address",
        "clients.rabbitmq.amqp", "clients.rabbitmq.consumer", "clients.rabbitmq.mailbox", "clients.rabbitmq.session",
        "clients.rabbitmq.settings", "clients.redis", "clients.redis.address", "clients.redis.connection",
        "clients.redis.link", "clients.redis.patterns", "clients.redis.settings", "clients.redis.subscription",
        "clients.stream", "clients.tls", "http_probe.settings", "postgres", "postgres.advice", "postgres.findings",
        "postgres.plans", "postgres.settings", "queues", "queues.celery_events_settings", "queues.celery_url",
        "queues.waiting", "redis", "redis.access", "redis.facts", "redis.refusals", "redis.settings", "system",
    }
)  # fmt: skip


def _modules() -> set[str]:
    """Return all modules, without the name of the package before them."""
    found = pkgutil.walk_packages(deckwatch_exporters.__path__, "deckwatch_exporters.")
    return {module.name.removeprefix("deckwatch_exporters.") for module in found}


def _source(module: str) -> Path:
    path = ROOT / "exporters/deckwatch_exporters" / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _on_files() -> set[str]:
    """Return the modules of the host's collectors that read files: the test of `system` mutates each file."""
    modules = {inspect.getmodule(type(make(name, HOST))) for name in ON_FILES}
    return {module.__name__.removeprefix("deckwatch_exporters.") for module in modules if module is not None}


def test_every_module_has_a_test_with_odd_values_or_has_no_input() -> None:
    tested = {module for modules in TESTS.values() for module in modules} | _on_files()

    assert _modules() - tested - WITHOUT_INPUT == set(), "add a test with odd values, and the module to TESTS"
    assert tested & WITHOUT_INPUT == set()
    assert (tested | WITHOUT_INPUT) - _modules() == set(), "no such module"


@pytest.mark.parametrize("test", TESTS)
def test_each_named_test_exists(test: str) -> None:
    file, name = test.split("::")

    assert name in {it.name for it in ast.parse((ROOT / "tests" / file).read_text()).body if hasattr(it, "name")}


@pytest.mark.parametrize("module", sorted(WITHOUT_INPUT))
def test_a_module_without_input_reports_no_malformed_value(module: str) -> None:
    calls = [it.func for it in ast.walk(ast.parse(_source(module).read_text())) if isinstance(it, ast.Call)]

    assert {it.id for it in calls if isinstance(it, ast.Name)}.isdisjoint({"Malformed", "MalformedValues"})


@pytest.mark.parametrize("name", ON_FILES)
def test_every_collector_of_files_has_a_fixture(name: str) -> None:
    assert files_read(name), f"add a file for {name} to {HOST}: the tests with odd values mutate it"
