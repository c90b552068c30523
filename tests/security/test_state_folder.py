"""Only the agent's user has access to the state folder."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from deckwatch.config.log_settings import LogsSettings
from deckwatch.config.private_files import NotPrivateError, make_private_folder, open_private
from deckwatch.logs.checkpoint import Checkpoint
from deckwatch.logs.counts import LogCounts
from deckwatch.logs.log_metrics import LogMetrics
from deckwatch.logs.loki.quarantine import FILE_NAME, Quarantine, entries
from deckwatch.logs.pipeline import Pipeline
from deckwatch.logs.sources.own_log import OwnLog
from deckwatch.logs.spool.spool import Cursor, Spool, SpoolError
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENTRY = ("why", {"a": "b"}, ["1", "line"])
FOREIGN_USER = 12345

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to another user")


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct, autouse=True)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Return the permissions of everything below a folder."""
    return {
        os.path.relpath(f"{place}/{name}", folder): stat.S_IMODE(os.lstat(f"{place}/{name}").st_mode)
        for place, folders, files in os.walk(folder)
        for name in (*folders, *files)
    }


def opened(path: Path) -> Spool:
    return Spool(path, 2**20, "drop_oldest", 2**16, lambda _payload, _reason: None)


def test_state_folders_and_files_are_private_regardless_of_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "logs"
    spool = opened(folder / "spool")
    spool.append(b"payload")
    reader = spool.reader("loki")
    ((cursor, _),) = reader.read(1)
    reader.acknowledge(cursor)
    spool.close()
    Checkpoint(folder / "positions.json").save(Cursor(1, 1), {}, {})
    Quarantine(folder).add("loki", [ENTRY])
    found = modes(tmp_path)
    assert {"state", "state/logs", "state/logs/spool", "state/logs/positions.json"} < found.keys()
    assert all(mode == (0o700 if (tmp_path / name).is_dir() else 0o600) for name, mode in found.items()), found


def test_a_folder_readable_by_others_is_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    folder.chmod(0o777)
    opened(folder).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@needs_root
@pytest.mark.parametrize("foreign", ["parent", "folder", "file"])
def test_a_folder_or_file_owned_by_another_user_is_rejected(tmp_path: Path, foreign: str) -> None:
    parent = tmp_path / "state"
    folder = parent / "spool"
    make_private_folder(folder)
    (folder / "lock").touch(0o600)
    owned = {"parent": parent, "folder": folder, "file": folder / "lock"}[foreign]
    os.chown(owned, FOREIGN_USER, FOREIGN_USER)
    if foreign == "parent":
        (folder / "lock").unlink()
        folder.rmdir()
    with pytest.raises(SpoolError, match=f"it belongs to user {FOREIGN_USER} and the agent runs as user 0; chown it"):
        opened(folder)


def test_a_symlink_instead_of_the_folder_is_rejected(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    make_private_folder(elsewhere)
    (tmp_path / "spool").symlink_to(elsewhere)
    with pytest.raises(SpoolError, match="it is a symbolic link; name the folder itself"):
        opened(tmp_path / "spool")
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("name", ["lock", "0000000000000001.log", "loki.ack"])
def test_a_symlink_in_the_spool_is_not_followed(tmp_path: Path, name: str) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "spool"
    victim.write_bytes(b"precious")
    make_private_folder(folder)
    (folder / name).symlink_to(victim)
    with pytest.raises((SpoolError, NotPrivateError)):
        opened(folder).reader("loki")
    assert victim.read_bytes() == b"precious"


def test_a_symlink_instead_of_the_checkpoint_or_the_quarantine_is_not_followed(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "logs"
    victim.write_bytes(b"precious")
    make_private_folder(folder)
    for name in (FILE_NAME, "positions.json", "positions.tmp"):
        (folder / name).symlink_to(victim)
    checkpoint = Checkpoint(folder / "positions.json")
    with pytest.raises(NotPrivateError):
        checkpoint.load()
    with pytest.raises(NotPrivateError):
        checkpoint.save(Cursor(1, 1), {}, {})
    with pytest.raises(NotPrivateError):
        Quarantine(folder).add("loki", [ENTRY])
    with pytest.raises(NotPrivateError):
        list(entries(folder))
    assert victim.read_bytes() == b"precious"


def test_a_pipe_instead_of_a_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "pipe").chmod(0o600)
    with pytest.raises(NotPrivateError, match="not a regular file"):
        open_private(tmp_path / "pipe", os.O_RDONLY)


def test_the_agent_reports_that_it_does_not_use_an_unsafe_state_folder(tmp_path: Path) -> None:
    make_private_folder(tmp_path / "elsewhere")
    (tmp_path / "logs").symlink_to(tmp_path / "elsewhere")
    settings = LogsSettings(loki={"url": "http://127.0.0.1:9"})
    pipeline = Pipeline(settings, tmp_path / "logs", tmp_path / "logs" / "spool", LogCounts(), OwnLog(), LogMetrics())
    pipeline.start()
    until(lambda: bool(pipeline.error), what="the error")
    pipeline.stop()
    assert (
        pipeline.error == f"the state folder {tmp_path}/logs is not used: {tmp_path}/logs: it is a symbolic link; "
        "name the folder itself"
    )
    assert list((tmp_path / "elsewhere").iterdir()) == []
