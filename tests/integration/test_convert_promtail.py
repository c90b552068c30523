"""A converted config of Promtail ships the same lines with the same labels and times: real agent, and Promtail itself
if the environment variable PROMTAIL names its binary."""

from __future__ import annotations

import os
import subprocess
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deckwatch.collection.registry import Registry
from deckwatch.config.load import load_config
from deckwatch.convert import promtail
from deckwatch.convert.conversion import NotConvertible
from log_shipping import config, shipper
from loki import Double, loki
from services import deckwatch_command, free_port, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMES = {"max_age": 1e12, "future": 1e12, "behind": 1e12}  # the files have fixed times
NOON = 1795262400 * 10**9  # 2026-11-21T12:00:00Z


@dataclass(frozen=True)
class Example:
    """The stages of a pipeline, a file, what Loki stores of it, and what the notes of the conversion say.

    Of each line: text, labels without `job` and `filename`, metadata, and the time in nanoseconds after noon; None for
    the time at which it was read.
    """

    stages: str
    content: str
    stored: list[tuple[str, dict[str, str], dict[str, str], int | None]]
    notes: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)


def docker(text: str) -> str:
    return f'{{"log":"{text}\\n","stream":"stderr","time":"2026-11-21T12:00:01.5Z"}}\n'


EXAMPLES = {
    "json": Example(
        """
        - json:
            expressions: {severity: level, at: ts, user: request.user.name, first: "tags[0]", number: n}
        - labels: {level: severity, first: , number: }
        - timestamp: {source: at, format: RFC3339}
        - structured_metadata: {user: }
        - output: {source: message}
        """,
        '{"level":"WARN","ts":"2026-11-21T12:00:02Z","request":{"user":{"name":"ann"}},"tags":["a","b"],"n":3}\n'
        "no JSON\n",
        [
            ('{"level":"WARN","ts":"2026-11-21T12:00:02Z","request":{"user":{"name":"ann"}},"tags":["a","b"],"n":3}',
             {"level": "WARN", "first": "a", "number": "3"}, {"user": "ann"}, 2 * 10**9),
            ("no JSON", {}, {}, None),
        ],
        ["not converted: output: no stage before it extracts message"],
    ),
    "output of JSON within JSON": Example(
        """
        - json: {expressions: {outer: payload, message: }}
        - json: {source: outer, expressions: {code: status.code}}
        - labels: {code: }
        - output: {source: message}
        """,
        '{"message":"paid","payload":"{\\\\"status\\\\":{\\\\"code\\\\":7}}"}\n'.replace("\\\\", "\\"),
        [("paid", {"code": "7"}, {}, None)],
    ),
    "logfmt": Example(
        """
        - logfmt: {mapping: {at: time, level: , route: path}}
        - labels: {level: , route: }
        - timestamp: {source: at, format: "2006-01-02 15:04:05.000", location: America/New_York}
        """,
        'time="2026-11-21 07:00:03.250" level=info path=/a\n',
        [('time="2026-11-21 07:00:03.250" level=info path=/a', {"level": "info", "route": "/a"}, {}, 3_250_000_000)],
    ),
    "regex, then JSON in the rest": Example(
        """
        - regex: {expression: '^(?P<level>[A-Z]+):(?P<name>[^:]+):(?P<rest>.*)$'}
        - json: {source: rest, expressions: {event: }}
        - labels: {level: , logger: name, event: }
        - static_labels: {team: blue}
        """,
        'ERROR:app:{"event":"x"}\n',
        [('ERROR:app:{"event":"x"}', {"level": "ERROR", "logger": "app", "event": "x", "team": "blue"}, {}, None)],
    ),
    "access log": Example(
        r"""
        - regex:
            expression: '^(?P<ip>\S+) \S+ \S+ \[(?P<at>[^\]]+)\] "(?P<method>\S+) (?P<path>\S+)[^"]*" (?P<status>\d+)'
        - labels: {method: , status: }
        - timestamp: {source: at, format: "02/Jan/2006:15:04:05 -0700"}
        - drop: {source: path, expression: "^/health"}
        """,
        '10.0.0.1 - - [21/Nov/2026:13:00:04 +0100] "GET /a HTTP/1.1" 200 1\n'
        '10.0.0.1 - - [21/Nov/2026:13:00:04 +0100] "GET /health HTTP/1.1" 200 1\n',
        [('10.0.0.1 - - [21/Nov/2026:13:00:04 +0100] "GET /a HTTP/1.1" 200 1', {"method": "GET", "status": "200"}, {},
          4 * 10**9)],
    ),
    "cri": Example(
        "- cri: {}",
        "2026-11-21T12:00:01.5Z stdout P half a \n2026-11-21T12:00:02.5Z stdout F line\n",
        [("half a line", {"stream": "stdout"}, {}, None)],
    ),
    "docker with JSON and the time of the line": Example(
        """
        - docker: {}
        - json: {expressions: {level: , at: }}
        - labels: {level: }
        - timestamp: {source: at, format: UnixMs}
        """,
        docker('{\\"level\\":\\"info\\",\\"at\\":1795262405000}') + docker("plain"),
        [
            ('{"level":"info","at":1795262405000}', {"level": "info", "stream": "stderr"}, {}, 5 * 10**9),
            ("plain", {"stream": "stderr"}, {}, 1_500_000_000),
        ],
    ),
    "multiline": Example(
        """
        - multiline: {firstline: '^\\d{4}', max_wait_time: 100ms}
        - regex: {expression: '^(?P<at>\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d)'}
        - timestamp: {source: at, format: "2006-01-02 15:04:05"}
        """,
        "2026-11-21 12:00:06 boom\n  at x\n2026-11-21 12:00:07 fine\n",
        [("2026-11-21 12:00:06 boom\n  at x", {}, {}, 6 * 10**9), ("2026-11-21 12:00:07 fine", {}, {}, 7 * 10**9)],
    ),
    "drop": Example(
        """
        - logfmt: {mapping: {level: , size: , secret: }}
        - drop: {expression: "(?i)ping"}
        - drop: {source: level, value: debug}
        - drop: {longer_than: 60b, expression: "^long"}
        - drop: {source: [size, secret]}
        """,
        "PING\nlevel=debug\nlevel=info\n" + "long " + "x" * 60 + "\nsize=1\nsize=1 secret=2\n",
        [("level=info", {}, {}, None), ("size=1", {}, {}, None)],
    ),
    "match": Example(
        """
        - match:
            selector: '{app="web"}'
            stages:
              - json: {expressions: {level: }}
              - labels: {level: }
        - match:
            selector: '{app!="web"}'
            stages: [{static_labels: {other: "1"}}]
        - match: {selector: '{app="web",level=~"debug|trace"} |~ "noise"', action: drop}
        - match:
            selector: '{level="error"}'
            stages: [{static_labels: {alarm: "1"}}]
        """,
        '{"level":"info","m":"noise"}\n{"level":"debug","m":"noise"}\n{"level":"debug","m":"x"}\n',
        [
            ('{"level":"info","m":"noise"}', {"app": "web", "level": "info"}, {}, None),
            ('{"level":"debug","m":"x"}', {"app": "web", "level": "debug"}, {}, None),
        ],
        ["not converted: static_labels for some lines only. A rule applies its settings to all lines."],
        {"app": "web"},
    ),
    "replace": Example(
        """
        - replace: {expression: 'password=(\\S+)', replace: '****'}
        - replace: {expression: '(?:[[]|ip )(?P<ip>\\d+\\.\\d+)\\.\\d+', replace: x.x}
        - replace: {expression: '(a)(b)', replace: ''}
        - template: {source: level, template: '{{ ToUpper .Value }}'}
        """,
        "password=abc ip 10.0.0 password=d\n",
        [("password=**** ip x.x.0 password=****", {}, {}, None)],
        [
            "not converted: replace with 2 groups. Write one rule of redact for each.",
            "not converted: stage template",
        ],
    ),
    "labels that are dropped": Example(
        """
        - logfmt: {mapping: {level: , team: }}
        - labels: {level: , team: }
        - labeldrop: [filename, level]
        - decolorize: {}
        """,
        "\x1b[1mlevel=info\x1b[0m team=a\n",
        [("level=info team=a", {"team": "a"}, {}, None)],
    ),
}  # fmt: skip


def promtail_config(url: str, jobs: dict[str, tuple[Path, Example]], folder: Path) -> str:
    scrapes = [
        {
            "job_name": name,
            "static_configs": [{"targets": ["localhost"], "labels": {"job": name, "__path__": str(path)} | it.labels}],
            "pipeline_stages": yaml.safe_load(textwrap.dedent(it.stages)),
        }
        for name, (path, it) in jobs.items()
    ]
    settings = {
        "server": {"http_listen_port": free_port(), "grpc_listen_port": 0},
        "positions": {"filename": str(folder / "positions.yaml")},
        "clients": [{"url": f"{url}/loki/api/v1/push", "batchwait": "100ms"}],
        "scrape_configs": scrapes,
    }
    return yaml.safe_dump(settings, sort_keys=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Example]]:
    folder = tmp_path_factory.mktemp("files")
    made = {}
    for number, (name, example) in enumerate(EXAMPLES.items()):
        path = folder / f"{number}.log"
        path.write_text(example.content)
        made[name] = path, example
    return made


@pytest.fixture(scope="module")
def stored(files: dict[str, tuple[Path, Example]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Double]:
    """Loki, after an agent with the converted config has shipped all files."""
    folder = tmp_path_factory.mktemp("agent")
    with loki(**TIMES) as double:  # type: ignore[arg-type]  # limits are numbers
        found = promtail.convert(promtail_config(double.url, files, folder)).config["logs"]
        assert found["loki"] == {"url": double.url, "batch_wait": "100ms"}
        with shipper(folder, config(double, found["files"])):
            _await_all(double)
            yield double


def _await_all(double: Double) -> None:
    wanted = sum(len(example.stored) for example in EXAMPLES.values())
    until(lambda: sum(len(found(double, name)) for name in EXAMPLES) >= wanted, what=f"{wanted} lines")


def found(double: Double, name: str) -> list[tuple[str, dict[str, str], dict[str, str], int]]:
    return [
        (text, {key: value for key, value in labels if key not in ("job", "filename")}, dict(metadata), moment)
        for labels, entries in double.stored.items()
        if dict(labels)["job"] == name
        for moment, text, metadata in entries
    ]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_converted_pipeline_ships_the_same_lines_labels_and_times(name: str, stored: Double) -> None:
    entries = sorted(found(stored, name), key=lambda entry: entry[0])
    wanted = sorted(EXAMPLES[name].stored, key=lambda entry: entry[0])

    assert [entry[:3] for entry in entries] == [entry[:3] for entry in wanted]
    for (text, _, _, moment), (_, _, _, after_noon) in zip(entries, wanted, strict=True):
        if after_noon is not None:
            assert moment - NOON == after_noon, text


def test_files_keep_their_label_filename_unless_it_is_dropped(
    stored: Double, files: dict[str, tuple[Path, Example]]
) -> None:
    labels = [dict(labels) for labels in stored.stored]
    by_job = {one["job"]: one.get("filename") for one in labels}

    assert by_job["json"] == str(files["json"][0])
    assert by_job["labels that are dropped"] is None


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_has_no_equivalent_is_listed(name: str, files: dict[str, tuple[Path, Example]], tmp_path: Path) -> None:
    notes = promtail.convert(promtail_config("http://127.0.0.1:3100", {name: files[name]}, tmp_path)).notes

    assert [note.what for note in notes if note.is_lost] == EXAMPLES[name].notes


@pytest.mark.skipif(not os.environ.get("PROMTAIL"), reason="the environment variable PROMTAIL names no binary")
def test_promtail_itself_ships_the_same(stored: Double, files: dict[str, tuple[Path, Example]], tmp_path: Path) -> None:
    with loki(**TIMES) as double:  # type: ignore[arg-type]  # limits are numbers
        text = promtail_config(double.url, files, tmp_path)
        (tmp_path / "promtail.yml").write_text(text)
        port = yaml.safe_load(text)["server"]["http_listen_port"]
        command = [os.environ["PROMTAIL"], f"-config.file={tmp_path / 'promtail.yml'}"]
        with running(command, f"http://127.0.0.1:{port}", "/ready", tmp_path / "promtail.log"):
            _await_all(double)
        for name, example in EXAMPLES.items():
            if not example.notes:
                theirs, ours = found(double, name), found(stored, name)
                assert sorted(str(it[:3]) for it in theirs) == sorted(str(it[:3]) for it in ours)


CONFIG = """\
server: {http_listen_port: 9080}
positions: {filename: /tmp/positions.yaml}
clients:
  - name: main
    url: https://ann:s3cret@loki.example/loki/api/v1/push
    tenant_id: team
    external_labels: {env: prod}
    headers: {X-Key: abc}
    proxy_url: http://bob:pw@proxy:3128
    backoff_config: {max_retries: 3, max_period: 2m}
    tls_config: {ca_file: /ca.pem}
  - url: http://10.0.0.2:3100/loki/api/v1/push
    basic_auth: {username: u, password_file: /run/pw}
limits_config: {readline_rate: 100}
scrape_configs:
  - job_name: app
    static_configs:
      - targets: [localhost]
        labels: {job: app, host: web-1.example, __path__: "/var/log/app/*.log", __path_exclude__: "*.gz"}
    relabel_configs:
      - {source_labels: [host], regex: '([^.]+)\\..*', target_label: node}
      - {regex: host, action: labeldrop}
    pipeline_stages:
      - json: {expressions: {duration: , kind: event.kind, team: }}
      - labels: {kind: }
      - tenant: {source: team}
      - metrics:
          lines: {type: Counter, config: {match_all: true, action: inc}}
          paid_total: {type: Counter, prefix: shop_, source: kind, config: {value: paid, action: inc}}
          seconds: {type: Histogram, prefix: shop_, source: duration, config: {buckets: [0.1, 1]}}
          last: {type: Gauge, source: duration, config: {action: set}}
          running: {type: Gauge, source: duration, config: {action: inc}}
      - limit: {rate: 10}
  - job_name: journal
    journal: {max_age: 12h, path: /var/log/journal, labels: {job: journal}, matches: _TRANSPORT=kernel PRIORITY=3}
    relabel_configs:
      - {source_labels: [__journal__systemd_unit], target_label: unit}
      - {source_labels: [__journal_priority_keyword], target_label: level}
      - {source_labels: [__journal__systemd_unit], regex: '(.+)\\.service', target_label: service}
      - {source_labels: [__journal__comm], regex: cron, action: drop}
    pipeline_stages:
      - match: {selector: '{unit="noisy.service"}', action: drop}
  - job_name: pods
    kubernetes_sd_configs: [{role: pod}]
    pipeline_stages: [{cri: {}}]
  - job_name: network
    syslog: {listen_address: 0.0.0.0:1514}
"""


def test_a_whole_config_is_converted_and_loads(tmp_path: Path) -> None:
    (tmp_path / "promtail.yml").write_text(CONFIG)
    done = subprocess.run(
        deckwatch_command("convert", "promtail", "promtail.yml"),
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    logs: dict[str, Any] = yaml.safe_load(done.stdout)["logs"]
    assert logs["loki"] == [
        {
            "name": "main", "url": "https://loki.example", "username": "ann", "password": "${MAIN_PASSWORD}",
            "labels": {"env": "prod"}, "tenant": "team", "tls": {"ca_file": "/ca.pem"},
            "headers": {"X-Key": "${MAIN_HEADER_X_KEY}"}, "proxy_url": "${MAIN_PROXY_URL}", "max_backoff": "2m",
        },
        {"url": "http://10.0.0.2:3100", "username": "u", "password_file": "/run/pw"},
    ]  # fmt: skip
    app, pods = logs["files"]
    assert app["labels"] == {"job": "app", "node": "web-1"}
    assert (app["exclude"], app["tenant_field"]) == (["*.gz"], "team")
    assert app["metrics"] == [
        {"name": "promtail_custom_lines_total", "type": "counter", "labels": {"kind": "kind"}},
        {"name": "shop_paid_total", "type": "counter", "match": {"kind": "^paid$"}, "labels": {"kind": "kind"}},
        {"name": "shop_seconds", "type": "histogram", "field": "duration", "labels": {"kind": "kind"},
         "buckets": [0.1, 1]},
        {"name": "promtail_custom_last", "type": "gauge", "field": "duration", "labels": {"kind": "kind"}},
    ]  # fmt: skip
    assert (pods["path"], pods["format"]) == ("/var/log/pods/*/*/*.log", "cri")
    assert logs["journal"] == [
        {
            "directory": "/var/log/journal", "max_age": "12h", "match": {"_TRANSPORT": "kernel", "PRIORITY": "3"},
            "format": "raw", "labels": {"job": "journal"}, "metadata_fields": [], "level_field": ["PRIORITY"],
            "label_fields": {"unit": "_SYSTEMD_UNIT", "level": "level", "service": "service"},
            "parse": [{"field": "_SYSTEMD_UNIT", "format": "regex", "pattern": r"^(?P<service>.+)\.service$"}],
            "drop": [{"field": "_COMM", "matches": "^(?:cron)$"},
                     {"field": "_SYSTEMD_UNIT", "matches": r"^(?:noisy\.service)$"}],
        }
    ]  # fmt: skip
    lost = [line.partition(": not converted: ") for line in done.stderr.splitlines() if "not converted" in line]
    assert [(place.rpartition(":")[2], what) for place, _, what in lost] == [
        ("10", "max_retries. Pushes are retried until Loki stores them."),
        ("14", "limits_config"),
        ("32", "metric promtail_custom_running: type gauge with the action inc"),
        ("33", "stage limit"),
        ("47", "syslog"),
    ]
    (tmp_path / "deckwatch.yml").write_text(done.stdout.replace("/run/pw", str(tmp_path / "pw")))
    (tmp_path / "pw").write_text("x")
    values = {"MAIN_PASSWORD": "x", "MAIN_HEADER_X_KEY": "x", "MAIN_PROXY_URL": "http://127.0.0.1:9"}
    loaded = load_config(tmp_path / "deckwatch.yml", values, Registry.installed())
    assert loaded.logs is not None
    assert len(loaded.logs.files) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not valid YAML"),
        ("scrape_configs: x", "scrape_configs is not a list"),
        ("scrape_configs: [{syslog: {}}]", "no scrape_config"),
        ("scrape_configs: [{static_configs: [{labels: {__path__: /a}}], pipeline_stages: [{json: 3}]}]", "json is not"),
        ("targets: []", "no scrape_config"),
        (
            "scrape_configs: [{static_configs: [{labels: {__path__: /a}}], "
            "pipeline_stages: [{multiline: {max_lines: x}}]}]",
            "max_lines is not a number",
        ),
        ("clients: [{url: 'http://[x'}]\nscrape_configs: [{static_configs: [{labels: {__path__: /a}}]}]", "not a URL"),
    ],
)
def test_a_file_that_is_no_config_of_promtail_is_refused(text: str, said: str) -> None:
    with pytest.raises(NotConvertible, match=said):
        promtail.convert(text)
