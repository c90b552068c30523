"""pg_settings as metrics: base units, and unusual settings of providers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deckwatch.exporter import Sample
from deckwatch_exporters.clients.libpq import Result, Session
from deckwatch_exporters.clients.samples import Once
from deckwatch_exporters.postgres.configuration import ConfigurationCollector, in_base_units, parsed
from deckwatch_exporters.postgres.server import Server

if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 1024.0**2


@pytest.mark.parametrize(
    ("value", "unit", "expected", "base"),
    [
        ("100", "", 100, ""),
        ("-1", "", -1, ""),
        ("0.5", "", 0.5, ""),
        ("250", "us", 0.00025, "seconds"),
        ("5000", "ms", 5, "seconds"),
        ("0.2", "ms", 0.0002, "seconds"),
        ("5", "s", 5, "seconds"),
        ("10", "min", 600, "seconds"),
        ("2", "h", 7200, "seconds"),
        ("3", "d", 259_200, "seconds"),
        ("16777216", "B", 16 * MIB, "bytes"),
        ("64", "kB", 65536, "bytes"),
        ("3", "1kB", 3072, "bytes"),
        ("3", "2kB", 6144, "bytes"),
        ("3", "4kB", 12288, "bytes"),
        ("16384", "8kB", 128 * MIB, "bytes"),
        ("3", "16kB", 49152, "bytes"),
        ("3", "32kB", 98304, "bytes"),
        ("3", "64kB", 196_608, "bytes"),
        ("1024", "MB", 1024 * MIB, "bytes"),
        ("5", "16MB", 80 * MIB, "bytes"),
        ("5", "32MB", 160 * MIB, "bytes"),
        ("5", "64MB", 320 * MIB, "bytes"),
        ("1", "GB", 1024 * MIB, "bytes"),
        ("1", "TB", 1024 * 1024 * MIB, "bytes"),
        ("0", "8kB", 0, "bytes"),
    ],
)
def test_every_postgresql_unit_is_converted_to_seconds_or_bytes(
    value: str, unit: str, expected: float, base: str
) -> None:
    figure, found = parsed(value, unit)
    assert figure == pytest.approx(expected)
    assert found == base


@pytest.mark.parametrize("unit", ["ms", "s", "min", "d", "kB", "8kB", "MB"])
def test_the_special_value_minus_one_is_not_converted(unit: str) -> None:
    assert parsed("-1", unit)[0] == -1


def test_a_value_with_its_own_unit_is_converted_from_that_unit() -> None:
    assert parsed("16MB", "MB") == (16 * MIB, "bytes")
    assert parsed("16MB", "8kB") == (16 * MIB, "bytes")
    assert parsed("2 min", "ms") == (120, "seconds")
    assert parsed("2kB", "") == (2048, "")


def test_an_unknown_unit_is_rejected() -> None:
    with pytest.raises(ValueError, match="fortnight"):
        in_base_units(1, "fortnight")


class _Settings(Session):
    """A server with these rows in pg_settings."""

    rows: list[tuple[bytes | None, ...]]

    def ensure(self) -> None:
        pass

    def queries(self, statements: Sequence[str]) -> list[Result]:
        assert "pg_settings" in statements[0]
        return [Result(("name", "setting", "unit", "vartype", "short_desc"), self.rows)]


def _collected(*rows: tuple[bytes | None, ...]) -> dict[str, float]:
    server = Server("", 4.0, 0.1)
    session = _Settings("", 4.0)
    session.rows, session.server = list(rows), "db:5432"
    server.session = session
    samples = Once(ConfigurationCollector(server)).collect()
    return {it.series.text.strip(): it.value for it in samples if isinstance(it, Sample)}


def test_metric_names_have_the_base_unit_and_no_invalid_characters() -> None:
    assert _collected(
        (b"shared_buffers", b"16384", b"8kB", b"integer", b"Sets the number of shared memory buffers."),
        (b"fsync", b"on", None, b"bool", None),
        (b"jit", b"off", None, b"bool", None),
        (b"rds.rds-superuser-reserved-connections", b"2", None, b"integer", None),
        (b"autovacuum_vacuum_cost_delay", b"2", b"ms", b"real", b""),
    ) == {
        'pg_settings_shared_buffers_bytes{server="db:5432"}': 128 * MIB,
        'pg_settings_fsync{server="db:5432"}': 1,
        'pg_settings_jit{server="db:5432"}': 0,
        'pg_settings_rds_rds_superuser_reserved_connections{server="db:5432"}': 2,
        'pg_settings_autovacuum_vacuum_cost_delay_seconds{server="db:5432"}': pytest.approx(0.002),
    }


def test_unusual_settings_of_a_provider_do_not_affect_the_others() -> None:
    assert _collected(
        (b"max_connections", b"100", None, b"integer", None),
        (b"sync_commit_cancel_wait", b"", b"ms", b"integer", None),
        (b"google_dataplex.max_messages", b"none", b"", b"integer", None),
        (b"azure.odd", b"7", b"fortnight", b"integer", None),
        (b"hidden", None, b"kB", b"integer", None),
        (b"same.name", b"1", None, b"integer", None),
        (b"same-name", b"1", None, b"integer", None),
    ) == {'pg_settings_max_connections{server="db:5432"}': 100, 'pg_settings_same_name{server="db:5432"}': 1}
