"""Build the documentation as a web site: `python docs/site.py [OUTPUT]`, with mkdocs-material installed.

The pages are all over the project, beside what they describe. They are copied with their paths, so that links between
them work on the site as they do in the project.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Where the site's pages and pictures are.
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    *("docs/**/*.md", "docs/*.png"),
    *("agent/**/*.md", "exporters/*.md", "deploy/**/*.md", "deploy/**/*.yml", "demo/*.md", "tests/README.md"),
    *("alerts/**/*.md", "dashboards/*.md", "dashboards/pictures/*.png", "examples/**/*.md"),
    *("deploy/deckwatch.service", "docker-compose.monitoring.yml", "dashboards/*.json", "alerts/**/*.yml"),
)


def build(output: Path) -> int:
    """Build the site in `output`. Returns mkdocs' exit code: a broken link is an error."""
    with tempfile.TemporaryDirectory() as temporary:
        pages = Path(temporary) / "pages"
        for pattern in PAGES:
            for page in ROOT.glob(pattern):
                copy = pages / page.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(page, copy)
        config = Path(temporary) / "mkdocs.yml"
        config.write_text((ROOT / "docs" / "mkdocs.yml").read_text())
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(output)]
        return subprocess.run(command, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}).returncode


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "docs").resolve()
    failed = build(target)
    if not failed:
        print(f"Built {target}/index.html")  # noqa: T201  this is the command line
    sys.exit(failed)
