"""The pack: the dashboards, alert rules and runbooks that go with the metrics, as files.

In an installed wheel they are package data in `deckwatch/pack/data/`, in a checkout the repository's own folders.
"""

from __future__ import annotations

from pathlib import Path

#: What belongs to each part of the pack; the wheel has these files and no others (pyproject.toml).
PARTS = {
    "dashboards": ("*.json",),
    "alerts": ("*.rules.yml", "alertmanager.yml", "templates/*.tmpl", "runbooks/*.md"),
}


class PackError(Exception):
    """It cannot be done with the pack; the message is for the user."""


def shipped(part: str, modules: Path = Path(__file__).parent.parent) -> dict[str, bytes]:
    """The files of a part (`dashboards` or `alerts`) by their path below it.

    `modules` is the folder of the import package. Raises PackError when the installation lacks the part.
    """
    in_wheel, in_checkout = modules / "pack" / "data" / part, modules.parent.parent / part
    folder = in_wheel if in_wheel.is_dir() else in_checkout
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for pattern in PARTS[part]
        for path in sorted(folder.glob(pattern))
    }
    if not files:
        raise PackError(f"this installation of Deckwatch has no {part} (looked in {in_wheel} and {in_checkout})")
    return files
