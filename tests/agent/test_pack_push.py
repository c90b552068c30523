"""Pushing dashboards over real HTTP to a Grafana double that stores versions as Grafana does."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from deckwatch.pack.dashboards import push, shipped_dashboards
from deckwatch.pack.files import PackError
from deckwatch.pack.json_api import ApiError, JsonApi
from services import deckwatch_command, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "glsa_the-token-of-the-test"
UIDS = [dashboard.uid for dashboard in shipped_dashboards()]
HOST = next(dashboard for dashboard in shipped_dashboards() if dashboard.uid == "deckwatch-host")


@dataclass
class Grafana:
    """The dashboard HTTP API of Grafana 11: versions with messages, and 412 when saving from an outdated version."""

    url: str
    dashboards: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: dict[str, list[str]] = field(default_factory=dict)
    folder_of: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)  # title by UID
    provisioned: set[str] = field(default_factory=set)
    saves: list[str] = field(default_factory=list)
    raw: tuple[int, str, str] | None = None  # status, content type and body of every response
    old_versions_api: bool = False
    saved_meanwhile: str = ""  # a user saves this dashboard each time it has been read

    def save(self, content: dict[str, Any], message: str, folder: str = "") -> int:
        uid = content["uid"]
        self.messages.setdefault(uid, []).append(message)
        self.dashboards[uid] = {**content, "id": 7, "version": len(self.messages[uid])}
        self.folder_of[uid] = folder
        return len(self.messages[uid])

    def edit(self, uid: str, **changes: Any) -> None:
        """Save a dashboard as a user does in the browser."""
        self.save({**self.dashboards[uid], **changes}, "", self.folder_of[uid])

    def get(self, path: str) -> tuple[int, Any]:
        if found := re.fullmatch(r"/api/dashboards/uid/([\w-]+)", path):
            uid = found[1]
            if uid not in self.dashboards:
                return 404, {"message": "Dashboard not found"}
            content = self.dashboards[uid]
            meta = {"folderUid": self.folder_of[uid], "provisioned": uid in self.provisioned}
            answer = json.loads(json.dumps({"dashboard": content, "meta": meta}))
            if uid == self.saved_meanwhile:
                self.messages[uid] += [""]
                self.dashboards[uid]["version"] += 1
                answer["dashboard"]["version"] = self.dashboards[uid]["version"] - 1
            return 200, answer
        if found := re.fullmatch(r"/api/dashboards/uid/([\w-]+)/versions\?limit=10", path):
            numbered = list(enumerate(self.messages[found[1]], 1))
            versions = [{"version": number, "message": message} for number, message in reversed(numbered)][:10]
            return 200, versions if self.old_versions_api else {"continueToken": "", "versions": versions}
        if found := re.fullmatch(r"/api/folders\?limit=(\d+)&page=(\d+)", path):
            start = int(found[1]) * (int(found[2]) - 1)
            return 200, [{"uid": u, "title": t} for u, t in self.folders.items()][start : start + int(found[1])]
        return 404, {"message": "Not found"}

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/api/folders":
            uid = f"folder{len(self.folders)}"
            self.folders[uid] = body["title"]
            return 200, {"uid": uid, "title": body["title"]}
        assert path == "/api/dashboards/db"
        content = body["dashboard"]
        assert content["id"] is None
        stored = self.dashboards.get(content["uid"])
        if content["uid"] in self.provisioned:
            return 400, {"message": "Cannot save provisioned dashboard"}
        if stored and stored["version"] != content["version"] and not body["overwrite"]:
            said = "The dashboard has been changed by someone else"
            return 412, {"message": said, "status": "version-mismatch"}
        if body.get("folderUid") and body["folderUid"] not in self.folders:
            return 400, {"message": "folder not found"}
        self.saves.append(content["uid"])
        version = self.save(content, body["message"], body.get("folderUid", ""))
        return 200, {"uid": content["uid"], "version": version, "status": "success"}


@pytest.fixture
def grafana() -> Iterator[Grafana]:
    port = free_port()
    double = Grafana(f"http://127.0.0.1:{port}/grafana")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(lambda path: double.get(path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(lambda path: double.post(path, body))

        def _answer(self, ask: Any) -> None:
            status, kind, text = double.raw or (0, "application/json", "")
            if not status:
                if self.headers["Authorization"] != f"Bearer {TOKEN}":
                    status, content = 401, {"message": "Invalid API key"}
                else:
                    status, content = ask(self.path.removeprefix("/grafana"))
                text = json.dumps(content)
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                if 300 <= status < 400:
                    self.send_header("Location", "http://elsewhere.example/login")
                self.end_headers()
                self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield double
    server.shutdown()
    server.server_close()
    thread.join(60)


def pushed(grafana: Grafana, folder: str | None = None, force: bool = False, dry_run: bool = False) -> str:
    out = io.StringIO()
    assert push(JsonApi("Grafana", grafana.url, TOKEN, timeout=60), folder, force, dry_run, out) == 0
    return out.getvalue()


def test_dashboards_are_created_once_and_then_unchanged(grafana: Grafana) -> None:
    assert f"{len(UIDS)} created, 0 updated, 0 unchanged, 0 kept\n" in pushed(grafana)
    assert sorted(grafana.dashboards) == UIDS
    stored = grafana.dashboards[HOST.uid]
    assert {**stored, "id": None, "version": None} == {**HOST.content, "id": None, "version": None}

    assert f"0 created, 0 updated, {len(UIDS)} unchanged, 0 kept\n" in pushed(grafana)
    assert grafana.saves == UIDS


@pytest.mark.parametrize("old_versions_api", [False, True])
def test_dashboards_pushed_by_an_older_deckwatch_are_updated_in_place(grafana: Grafana, old_versions_api: bool) -> None:
    grafana.old_versions_api = old_versions_api
    grafana.folders["f"] = "Team"
    grafana.save({**HOST.content, "panels": []}, "Deckwatch 0.0.9 sha256:0123456789abcdef", "f")

    said = pushed(grafana)

    assert f"updated    deckwatch-host (from 0.0.9 to {HOST.version})\n" in said
    assert grafana.dashboards[HOST.uid]["panels"] == HOST.content["panels"]
    assert grafana.folder_of[HOST.uid] == "f"


def test_fields_that_grafana_adds_do_not_count_as_a_change(grafana: Grafana) -> None:
    pushed(grafana)
    grafana.dashboards[HOST.uid]["weekStart"] = ""
    grafana.dashboards[HOST.uid]["panels"][0]["pluginVersion"] = "12.0.0"

    assert f"{len(UIDS)} unchanged" in pushed(grafana)


def test_user_changes_are_kept_unless_forced(grafana: Grafana) -> None:
    pushed(grafana)
    grafana.edit(HOST.uid, title="Ours")

    assert (
        "kept       deckwatch-host (changed in Grafana, or not pushed by Deckwatch; overwrite it with --force"
        in pushed(grafana)
    )
    assert grafana.dashboards[HOST.uid]["title"] == "Ours"

    assert "updated    deckwatch-host (changes made in Grafana are overwritten)" in pushed(grafana, force=True)
    assert grafana.dashboards[HOST.uid]["title"] == HOST.title


def test_user_changes_saved_during_the_push_are_kept(grafana: Grafana) -> None:
    grafana.save({**HOST.content, "panels": []}, "Deckwatch 0.0.9 sha256:0123456789abcdef")
    grafana.saved_meanwhile = HOST.uid

    said = pushed(grafana)

    assert "kept       deckwatch-host (Grafana says: The dashboard has been changed by someone else)" in said
    assert HOST.uid not in grafana.saves


def test_a_dashboard_provisioned_from_a_file_is_kept_even_if_forced(grafana: Grafana) -> None:
    grafana.save({**HOST.content, "panels": []}, "")
    grafana.provisioned.add(HOST.uid)

    assert "kept       deckwatch-host (provisioned from a file" in pushed(grafana, force=True)


def test_a_dry_run_reports_the_same_and_changes_nothing(grafana: Grafana) -> None:
    grafana.save({**HOST.content, "panels": []}, "Deckwatch 0.0.9 sha256:0123456789abcdef")

    printed = pushed(grafana, folder="New", dry_run=True)

    assert grafana.saves == []
    assert grafana.folders == {}
    assert f"dry run, nothing was changed: {len(UIDS) - 1} created, 1 updated, 0 unchanged, 0 kept\n" in printed
    done = pushed(grafana, folder="New")
    assert printed.splitlines()[:-1] == done.splitlines()[:-1]


def test_new_dashboards_go_to_the_folder_which_is_created_once(grafana: Grafana) -> None:
    grafana.folders = {f"other{number}": f"Other {number}" for number in range(1500)}

    assert "the folder 'Deckwatch'" in pushed(grafana, folder="Deckwatch")
    del grafana.dashboards[HOST.uid], grafana.messages[HOST.uid]
    assert "the folder" not in pushed(grafana, folder="Deckwatch")

    assert {grafana.folders[uid] for uid in grafana.folder_of.values()} == {"Deckwatch"}
    assert len(grafana.folders) == 1501


def test_dashboards_of_a_newer_deckwatch_abort_the_push_unless_forced(grafana: Grafana) -> None:
    grafana.save({**HOST.content, "description": "Deckwatch 10.2.0; made by code."}, "")

    with pytest.raises(
        PackError, match=r"newer Deckwatch \(deckwatch-host is of 10.2.0; this is .*Nothing was changed"
    ):
        pushed(grafana)
    assert grafana.saves == []

    pushed(grafana, force=True)
    assert grafana.dashboards[HOST.uid]["description"] == HOST.content["description"]


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (
            (401, "application/json", '{"message": "Invalid API key"}'),
            "refused the credentials (HTTP 401). Check the token or password.",
        ),
        (
            (403, "application/json", '{"message": "no permission"}'),
            "denied access (HTTP 403): no permission. Check the permissions",
        ),
        ((200, "text/html", "<html>Sign in</html>"), "answered HTTP 200 without JSON. Check the URL."),
        ((404, "text/html", "<html>nothing here</html>"), "answered HTTP 404 without JSON"),
        ((404, "application/json", "[]"), "not with a dashboard. Check that the URL"),
        (
            (200, "application/json", '{"status": "success"}'),
            "not with a dashboard. Check that the URL",
        ),
        (
            (200, "application/json", '{"dashboard": {"version": "x"}}'),
            "not with a dashboard. Check that the URL",
        ),
        ((302, "text/html", ""), "redirects to http://elsewhere.example/login"),
        (
            (500, "application/json", f'{{"message": "lost {TOKEN}\\nand more"}}'),
            "answered HTTP 500: lost *** and more",
        ),
        ((502, "text/html", "bad gateway"), "answered HTTP 502 without JSON"),
    ],
)
def test_an_error_response_is_reported_in_one_line_without_the_token(
    grafana: Grafana, raw: tuple[int, str, str], line: str
) -> None:
    grafana.raw = raw

    with pytest.raises(ApiError) as failed:
        pushed(grafana)
    said = str(failed.value)
    assert said.startswith(f"Grafana at {grafana.url} ")
    assert line in said
    assert "\n" not in said
    assert TOKEN not in said


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        deckwatch_command("dashboards", "push", *arguments), capture_output=True, text=True, cwd=folder, check=False
    )


def test_the_command_pushes_and_never_prints_the_token(grafana: Grafana, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    done = command(tmp_path, "--grafana", grafana.url, "--token-file", "token", "--folder", "D")
    (tmp_path / "token").write_text("wrong-token")
    refused = command(tmp_path, "--grafana", grafana.url, "--token-file", "token")

    assert done.returncode == 0, done.stderr
    assert f"{len(UIDS)} created" in done.stdout
    assert (refused.returncode, refused.stdout) == (1, "")
    assert (
        refused.stderr == f"Grafana at {grafana.url} refused the credentials (HTTP 401). Check the token or password.\n"
    )
    assert TOKEN not in done.stdout + done.stderr
    assert "wrong-token" not in refused.stderr


def test_the_dashboard_of_objectives_is_pushed_if_there_are_any(grafana: Grafana, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "deckwatch.yml").write_text("exporters: {}\nslos: [{name: shop, service: shop, objective: 99}]\n")

    for what in ("created", "unchanged"):
        done = command(tmp_path, "--grafana", grafana.url, "--token-file", "token")
        assert f"{len(UIDS) + 1} {what}" in done.stdout, done.stderr
    assert sorted(grafana.dashboards) == sorted([*UIDS, "deckwatch-slos"])


def test_an_unreachable_grafana_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    url = f"http://127.0.0.1:{free_port()}"
    done = command(tmp_path, "--grafana", url, "--token-file", "token")

    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == f"Grafana at {url} is unreachable: Connection refused. Check the URL, and that it is running.\n"
    )


@pytest.mark.parametrize("content", [b"", b"two words", b"line\nline", b"\xff\xfe", b"a" * 5000, None])
def test_a_file_without_a_token_is_rejected(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    done = command(tmp_path, "--grafana", "http://127.0.0.1:1", "--token-file", "token")

    assert done.returncode == 2
    assert done.stderr.startswith("token: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("url", ["grafana:3000", "ftp://a", "http://", "http://a:port", "http://u:secret@a/?b=c"])
def test_an_invalid_url_is_rejected_without_showing_it(tmp_path: Path, url: str) -> None:
    done = command(tmp_path, "--grafana", url, "--token-file", "token")

    assert done.returncode == 2
    assert "argument --grafana: " in done.stderr
    assert "secret" not in done.stderr
