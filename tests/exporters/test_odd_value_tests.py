"""Every exporter has a test with malformed input: a new exporter needs a line here."""

from __future__ import annotations

import pytest

from deckwatch_exporters import EXPORTERS
from services import ROOT

#: For each exporter, the test in which malformed input affects only its own series.
TESTS = {
    "apps": ("exporters/apps/test_archive.py", "test_damaged_files_are_skipped_and_counted"),
    "business": ("exporters/business/test_rows.py", "test_any_rows_give_distinct_finite_series"),
    "http_probe": (
        "exporters/http_probe/test_http_probe.py",
        "test_a_malformed_response_fails_the_probe_and_not_the_collector",
    ),
    "pgbouncer": ("exporters/pgbouncer/test_pgbouncer.py", "test_a_value_that_is_not_a_number_is_malformed"),
    "postgres": (
        "exporters/postgres/test_odd_values.py",
        "test_a_malformed_field_affects_at_most_the_series_of_its_row",
    ),
    "queues": ("integration/test_queues_odd_messages.py", "test_an_odd_message_costs_no_length_of_any_queue"),
    "redis": ("exporters/redis/test_mutations.py", "test_a_malformed_info_value_affects_only_its_series"),
    "system": (
        "exporters/system/test_malformed_values.py",
        "test_a_malformed_value_affects_only_the_series_that_depend_on_it",
    ),
}


@pytest.mark.parametrize("exporter", sorted(EXPORTERS))
def test_every_exporter_has_a_test_with_malformed_input(exporter: str) -> None:
    path, name = TESTS[exporter]

    assert f"def {name}(" in (ROOT / "tests" / path).read_text()
