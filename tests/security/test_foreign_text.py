"""Text from servers, logs and files cannot control a terminal, and files without metrics are not quoted."""

from __future__ import annotations

import io
import logging
import os
from typing import TYPE_CHECKING

import pytest

from deckwatch.cli.table import table
from deckwatch.config.log_settings import LogsSettings
from deckwatch.logs import agent_log
from deckwatch.logs.loki.quarantine import Quarantine
from deckwatch.logs.preview import preview, show_quarantine
from deckwatch.logs.printable import printable, printable_line
from deckwatch_exporters.system.paths import Paths
from deckwatch_exporters.system.textfile import Textfile, TextfileSettings, parse
from security.hostile_texts import BLOW_UP, SIZE, cpu_seconds

if TYPE_CHECKING:
    from pathlib import Path

#: Clears the screen, sets the title, moves up a line, reverses text, and ends with a separate line.
HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b1A\r\u202egnp\u2028end"
ESCAPED = r"\x1b[2J\x1b]0;owned\x07\x9b1A\r\u202egnp\u2028end"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_control_characters_are_escaped() -> None:
    assert printable(HOSTILE) == ESCAPED
    assert printable("ö\tü\n 日本 👩‍💻 \udcff") == "ö\tü\n 日本 👩\u200d💻 \\udcff"
    assert printable_line("a\n\tb") == r"a\n\tb"


def test_command_line_tables_escape_control_characters() -> None:
    assert table(("A",), [(HOSTILE + "\n",)]) == f"A\n{ESCAPED}\\n\n"


@pytest.mark.parametrize("line", [HOSTILE, '{"message": "\x1b[2J"}'])
def test_logs_tail_escapes_control_characters(tmp_path: Path, line: str) -> None:
    (tmp_path / "app.log").write_text(f"{line}\n")
    settings = LogsSettings.model_validate(
        {
            "loki": {"url": "http://127.0.0.1:9"},
            "files": [{"path": f"{tmp_path}/*.log", "label_fields": {"m": "message"}}],
        }
    )
    out = io.StringIO()
    preview(settings, f"{tmp_path}/app.log", 10, False, out)
    assert "2J" in out.getvalue()
    assert all(one.isprintable() for one in out.getvalue().split("\n"))


def test_the_lines_of_a_record_cannot_be_mistaken_for_other_records(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text('first\n2026-01-01T00:00:00 {job="forged"}\n')
    settings = LogsSettings.model_validate(
        {
            "loki": {"url": "http://127.0.0.1:9"},
            "files": [{"path": f"{tmp_path}/*.log", "format": "raw", "multiline": {"first_line": "^first"}}],
        }
    )
    out = io.StringIO()
    preview(settings, f"{tmp_path}/app.log", 10, False, out)
    assert [line[:4] == "    " for line in out.getvalue().splitlines()] == [False, True, True]


def test_logs_quarantine_escapes_control_characters(tmp_path: Path) -> None:
    Quarantine(tmp_path).add("loki", [("why", {"job": HOSTILE}, ["1", HOSTILE])])
    out = io.StringIO()
    show_quarantine(tmp_path, out)
    assert out.getvalue().count(ESCAPED) == 2
    assert all(one.isprintable() for one in out.getvalue().split("\n"))


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_the_log_escapes_control_characters(stream: type[io.StringIO]) -> None:
    root = logging.getLogger()
    handlers, level, out = root.handlers[:], root.level, stream()
    try:
        agent_log.configure(out)
        logging.getLogger("deckwatch").warning("target said: %s", HOSTILE)
    finally:
        root.handlers[:], root.level = handlers, level
    assert "owned" in out.getvalue()
    assert not set("\x1b\x07\x9b\r") & set(out.getvalue())


@pytest.mark.parametrize(
    "content",
    [
        "root:$6$SECRET:19000:0:99999:7:::\n",
        "SECRET\n",
        "a SECRET\n",
        "a{SECRET} 1\n",
        "# TYPE SECRET SECRET\n",
        "# HELP SECRET a\n# HELP SECRET b\n",
        "# TYPE SECRET gauge\n# TYPE SECRET gauge\n",
        "SECRET 1\nSECRET 1\n",
        "SECRET 1 17\n",
        "a 1\nSECRET",
    ],
)
def test_a_symlink_in_the_textfile_folder_does_not_reveal_its_target(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "shadow").write_text(content)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "a.prom").symlink_to(tmp_path / "shadow")
    settings = TextfileSettings(directories=(str(tmp_path / "metrics"),))
    samples = list(Textfile(Paths(), settings, logging.getLogger("textfile")).collect())
    assert "a.prom: ValueError: line " in caplog.text
    assert "SECRET" not in caplog.text + "".join(map(str, samples))


@pytest.mark.parametrize(
    "line", ["a{" + "}" * SIZE + " x y z", "a{" * (SIZE // 2), 'a{b="' + "\\" * SIZE, "a{b=" * (SIZE // 4)]
)
def test_no_textfile_line_causes_catastrophic_backtracking(line: str) -> None:
    def run() -> None:
        with pytest.raises(ValueError, match="line 1"):
            list(parse(f"{line}\n", os.devnull))

    assert cpu_seconds(run) < BLOW_UP
