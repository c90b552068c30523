"""List the shipped dashboards, and push them to Grafana without overwriting what users changed there.

Each save of a dashboard in Grafana is a version with a message. Our message has the version of Deckwatch and a hash of
the content. If the latest version has another message, somebody else changed or created the dashboard.
https://grafana.com/docs/grafana/latest/developers/http_api/dashboard/
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import quote

from deckwatch import __version__
from deckwatch.pack.files import PackError, shipped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deckwatch.pack.json_api import JsonApi

_VERSION = re.compile(r"\bDeckwatch (\d+(?:\.\d+)*)")
_MESSAGE = re.compile(r"^Deckwatch (\S+) sha256:([0-9a-f]{16})$")
_PAGE = 1000


@dataclass(frozen=True)
class Dashboard:
    """A shipped dashboard in Grafana's classic JSON."""

    content: dict[str, Any]

    @property
    def uid(self) -> str:
        return str(self.content["uid"])

    @property
    def title(self) -> str:
        return str(self.content["title"])

    @property
    def version(self) -> str:
        return _version_in(self.content) or __version__

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def message(self) -> str:
        return f"Deckwatch {self.version} sha256:{self.hash}"


@dataclass(frozen=True)
class Step:
    """What a push does with one dashboard: create or update it, or leave it, and why."""

    dashboard: Dashboard
    what: str
    why: str = ""
    stored_version: int = 0
    folder: str = ""  # its UID; that of the General folder is empty


def shipped_dashboards() -> list[Dashboard]:
    """By UID. Raises PackError when there are none."""
    found = [Dashboard(json.loads(content)) for content in shipped("dashboards").values()]
    return sorted(found, key=lambda dashboard: dashboard.uid)


def push(
    grafana: JsonApi,
    folder: str | None,
    force: bool,
    dry_run: bool,
    out: TextIO,
    compared: Callable[[int], None] = lambda _number: None,
    generated: Sequence[Dashboard] = (),
) -> int:
    """Create or update all dashboards in Grafana, and print what was done with each; with `dry_run`, do nothing.

    All are those that are shipped and the `generated` ones. `compared()` is called with the number of dashboards that
    were compared, before the first one is changed. `folder` is the title of the folder for new dashboards; the others
    stay where they are. Returns 0, also if some were kept because users changed them. Raises PackError if Grafana has
    dashboards of a newer Deckwatch (nothing is changed then, unless forced), and ApiError.
    """
    stored = []
    for number, dashboard in enumerate([*shipped_dashboards(), *generated], 1):
        stored.append((dashboard, *_stored(grafana, dashboard)))
        compared(number)
    newer = [
        f"{ours.uid} is of {_version_in(theirs)}" for ours, theirs, _ in stored if theirs and _is_newer(theirs, ours)
    ]
    if newer and not force:
        raise PackError(
            f"Grafana has dashboards of a newer Deckwatch ({', '.join(newer)}; this is {__version__}). "
            "Nothing was changed. Overwrite them with --force."
        )
    steps = [_plan(grafana, dashboard, theirs, meta, force) for dashboard, theirs, meta in stored]
    folder_uid = ""
    if folder is not None and any(step.what == "created" for step in steps):
        folder_uid = _folder(grafana, folder, dry_run, out)
    counts = dict.fromkeys(("created", "updated", "unchanged", "kept"), 0)
    for planned in steps:
        step = planned
        if not dry_run and step.what in ("created", "updated"):
            step = _save(grafana, step, folder_uid if step.what == "created" else step.folder, force)
        counts[step.what] += 1
        why = f" ({step.why})" if step.why else ""
        out.write(f"{step.what:<10} {step.dashboard.uid}{why}\n")
    done = ", ".join(f"{count} {what}" for what, count in counts.items())
    out.write(f"dry run, nothing was changed: {done}\n" if dry_run else f"{done}\n")
    return 0


def _stored(grafana: JsonApi, dashboard: Dashboard) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The dashboard with this UID in Grafana, and its metadata."""
    status, answer = grafana.get(f"/api/dashboards/uid/{quote(dashboard.uid, safe='')}", (200, 404))
    if status == 404 and isinstance(answer, dict) and "message" in answer:
        return None, {}
    content = answer.get("dashboard") if isinstance(answer, dict) else None
    if not isinstance(content, dict) or not isinstance(content.get("version"), int):
        grafana.fail("answered, but not with a dashboard. Check that the URL is that of a Grafana.")
    meta = answer.get("meta")
    return content, meta if isinstance(meta, dict) else {}


def _plan(
    grafana: JsonApi, dashboard: Dashboard, stored: dict[str, Any] | None, meta: dict[str, Any], force: bool
) -> Step:
    if stored is None:
        return Step(dashboard, "created")
    if {**stored, "id": None, "version": None} == {**dashboard.content, "id": None, "version": None}:
        return Step(dashboard, "unchanged")
    if meta.get("provisioned"):
        return Step(dashboard, "kept", "provisioned from a file, which would undo any change")
    pushed = _MESSAGE.match(_latest_message(grafana, dashboard, stored["version"]))
    if pushed and pushed[2] == dashboard.hash:
        return Step(dashboard, "unchanged")
    if not pushed and not force:
        return Step(dashboard, "kept", "changed in Grafana, or not pushed by Deckwatch; overwrite it with --force")
    why = f"from {pushed[1]} to {dashboard.version}" if pushed else "changes made in Grafana are overwritten"
    return Step(dashboard, "updated", why, stored["version"], str(meta.get("folderUid") or ""))


def _latest_message(grafana: JsonApi, dashboard: Dashboard, version: int) -> str:
    """The message of the stored version; empty if it is unknown."""
    status, answer = grafana.get(f"/api/dashboards/uid/{quote(dashboard.uid, safe='')}/versions?limit=10", (200, 404))
    # A list up to Grafana 11, and an object with that list since.
    versions = answer.get("versions") if isinstance(answer, dict) else answer
    if status == 404 or not isinstance(versions, list):
        return ""
    messages = {v.get("version"): v.get("message") for v in versions if isinstance(v, dict)}
    return str(messages.get(version) or "")


def _save(grafana: JsonApi, step: Step, folder: str, force: bool) -> Step:
    content = {**step.dashboard.content, "id": None, "version": step.stored_version}
    body = {"dashboard": content, "message": step.dashboard.message, "overwrite": force}
    if folder:
        body["folderUid"] = folder
    # Without `overwrite` Grafana answers 412 when somebody has saved since we looked.
    status, answer = grafana.post("/api/dashboards/db", body, (200, 412))
    if status == 412:
        said = answer.get("message", "") if isinstance(answer, dict) else ""
        return Step(step.dashboard, "kept", f"Grafana says: {said}"[:200])
    if not isinstance(answer, dict) or answer.get("uid") != step.dashboard.uid:
        grafana.fail(f"did not confirm that it saved {step.dashboard.uid}")
    return step


def _folder(grafana: JsonApi, title: str, dry_run: bool, out: TextIO) -> str:
    """The UID of the folder with this title; the folder is created if it does not exist."""
    page = 1
    while True:
        _, answer = grafana.get(f"/api/folders?limit={_PAGE}&page={page}")
        folders = [f for f in answer if isinstance(f, dict)] if isinstance(answer, list) else []
        for found in folders:
            if found.get("title") == title:
                return str(found.get("uid"))
        if len(folders) < _PAGE:
            break
        page += 1
    out.write(f"{'created':<10} the folder {title!r}\n")
    if dry_run:
        return ""
    _, made = grafana.post("/api/folders", {"title": title})
    if not isinstance(made, dict) or not made.get("uid"):
        grafana.fail(f"did not confirm that it created the folder {title!r}")
    return str(made["uid"])


def _version_in(content: dict[str, Any]) -> str:
    found = _VERSION.search(str(content.get("description", "")))
    return found[1] if found else ""


def _is_newer(stored: dict[str, Any], ours: Dashboard) -> bool:
    def numbers(version: str) -> tuple[int, ...]:
        found = [int(number) for number in version.split(".") if number]
        while found and not found[-1]:
            found.pop()  # 1.0 is 1.0.0
        return tuple(found)

    return numbers(_version_in(stored)) > numbers(ours.version)
