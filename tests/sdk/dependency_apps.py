"""Programs that use libraries in an environment of their own, and what the agent reads of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from counting_app import collect
from services import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deckwatch.testing import Collected

FOLDER = Path(sys.prefix) / "dependencies"
PYTHON = str(FOLDER / "bin" / "python")
IS_INSTALLED = (FOLDER / ".installed").exists()
MISSING = "the libraries of applications are not installed: make services"

#: `stop(name)` says what is ready, and waits until the test has looked.
_BEGIN = """
import faulthandler, gc, json, logging, os, sys
faulthandler.dump_traceback_later(100, exit=True)
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
import deckwatch
SERVER = json.loads(os.environ["SERVER"])

def stop(name, sample=True):
    if sample:
        from deckwatch.sdk.dependencies.sampling import sampler
        sampler().sample()
    print(name, flush=True)
    sys.stdin.readline()
"""


class DependencyApp:
    """A program that runs `code` and stops where it calls `stop(name)`: a context manager."""

    def __init__(self, folder: Path, code: str, server: Mapping[str, object] | None = None, **environ: str) -> None:
        self._folder = folder / "apps"
        self._errors = folder / "errors.txt"
        environment = {"DECKWATCH_APP_DIR": str(self._folder), "DECKWATCH_SERVICE": "shop", "PATH": "/usr/bin:/bin"}
        environment |= {"PYTHONPATH": str(ROOT / "agent"), "SERVER": json.dumps(server or {}), **environ}
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [PYTHON, "-W", "ignore", "-c", _BEGIN + code],
                env=environment,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def __enter__(self) -> DependencyApp:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def at(self, name: str) -> Collected:
        """Wait until the program has come to `stop(name)`. Returns what the agent reads, and lets the program go on."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == name, self.errors
        collected = collect(self._folder)
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return collected

    def end(self) -> Collected:
        """Wait until the program has ended without an error."""
        assert self._process.wait(60) == 0, self.errors
        return collect(self._folder)
