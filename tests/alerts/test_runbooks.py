"""The runbooks are complete, their links resolve, and their commands and queries work."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest
import yaml

from databases import PostgresServer, postgres_server, postgres_standby
from server_versions import POSTGRES, postgres_programs
from services import installed, until

from .rule_files import ALERTS, Rule, alerts, unknown_metrics
from .runbook_texts import RUNBOOKS, blocks, lines, spans, statements

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Silence"]
each_alert = pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule.name)
each_runbook = pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)

#: How a code span begins that is a shell command.
_COMMAND = re.compile(
    r"(apt-get|chmod|chown|chronyc|cmp|cp|curl|ethtool|find|fusermount|ionice|journalctl|kill|ls|lvextend|lsblk|mdadm|psql|"
    r"redis-cli|redis-check-aof|rsync|sysctl|systemctl|truncate|tune2fs|umount|/opt/deckwatch/bin/deckwatch) "
)
#: What may lose data or disturb others, so that the paragraph that names it has to say so in bold or forbid it.
_DANGEROUS = re.compile(
    r"pg_promote\(\)|pg_drop_replication_slot|redis-check-aof --fix|memray attach|pg_basebackup|replicaof NEW_HOST|"
    r"failover NAME|failover takeover|truncate -s|-delete`|fsck -f|umount -f|maxmemory-policy allkeys|MINVALUE|"
    r"mdadm --manage [^ ]+ --remove|client kill type|--cluster fix|shutdown nosave|"
    r"pg_rewind|ROLLBACK PREPARED|stop-writes-on-bgsave-error no"
)
_WARNED = re.compile(r"\*\*|\bNever\b|\b[Aa]sk\b|consent|[Rr]ead the report first")


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    generated = {"SloBudgetBurning"}
    assert {path.stem for path in RUNBOOKS} == {rule.name for rule in alerts()} | generated


@each_alert
def test_each_runbook_has_every_section(rule: Rule) -> None:
    text = (ALERTS / "runbooks" / f"{rule.name}.md").read_text()
    assert text.startswith(f"# {rule.name}\n\n{rule.annotations['summary']} Severity: {rule.labels['severity']}.\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert text.count("```") % 2 == 0
    diagnosis = text.partition("## Diagnosis\n\n")[2].partition("## Mitigation")[0]
    assert diagnosis.startswith("Quickest check, ")
    assert "```" in diagnosis
    assert re.search(r"[Ll]ikely causes|^Likely causes", diagnosis) or rule.name == "Watchdog"
    if rule.name != "Watchdog":
        assert f'amtool silence add alertname="{rule.name}"' in text


@each_runbook
def test_every_link_resolves(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert (path.parent / link).exists(), link


@each_runbook
def test_every_shell_command_parses(path: Path) -> None:
    commands = blocks(path, "sh") + [span for span in spans(path) if _COMMAND.match(span)]
    for command in commands:
        parsed = subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True, check=False)
        assert (parsed.returncode, parsed.stderr) == (0, ""), command
        assert not re.search(r"(?<![/\w-])deckwatch (check|once|advise|logs)", command), "deckwatch is not on the PATH"
        assert not re.search(r"postgresql@\d|/\d\d/main", command), "not every installation has this version"


def test_every_promql_query_parses_and_reads_metrics_of_the_catalogue(tmp_path: Path) -> None:
    """promtool parses them as rules."""
    queries = [(path.stem, query) for path in RUNBOOKS for query in lines(path, "promql")]
    found = [{"record": f"{name}:query{n}", "expr": query} for n, (name, query) in enumerate(queries)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": found}]}))
    checked = subprocess.run(
        [installed("promtool"), "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert len(queries) > 50
    for name, query in queries:
        assert unknown_metrics(query) == set(), name


@each_runbook
def test_a_dangerous_command_says_so(path: Path) -> None:
    for paragraph in re.split(r"\n\n|\n(?=- |\d\. )", path.read_text()):
        if found := _DANGEROUS.search(paragraph):
            before = path.read_text().partition(paragraph)[0].rstrip().rpartition("\n\n")[2]
            assert _WARNED.search(before + paragraph), f"{found[0]}: {paragraph}"


@pytest.fixture(scope="module", params=[version for version in POSTGRES if postgres_programs(version)])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A primary and a standby of each installed version."""
    with postgres_server(postgres_programs(request.param)) as primary, postgres_standby(primary, "standby") as standby:
        until(lambda: primary.value("SELECT count(*) FROM pg_stat_replication") == 1, what="the standby")
        yield primary, standby


def test_every_diagnostic_query_runs_on_a_primary_and_on_a_standby(pair: tuple[PostgresServer, PostgresServer]) -> None:
    queries = [query for path in RUNBOOKS for block in blocks(path, "sql") for query in block.split(";")[:-1]]
    assert len(queries) > 20
    for server in pair:
        with server.connect() as connection:
            for query in queries:
                assert connection.execute(query.encode()).description, query


def test_every_other_statement_parses(pair: tuple[PostgresServer, PostgresServer]) -> None:
    """They name tables and roles that do not exist here, and run in a transaction that is rolled back."""
    primary, _ = pair
    found = [statement for path in RUNBOOKS for statement in statements(path)]
    assert len(found) > 40
    for statement in found:
        with primary.connect() as connection:
            try:
                with connection.transaction(force_rollback=True):
                    connection.execute(statement.encode())
            except psycopg.errors.SyntaxError as error:
                pytest.fail(f"{statement}: {error}")
            except psycopg.Error:
                pass  # what it names does not exist, or it does not run in a transaction: it has been parsed
