"""Write the JSON of every dashboard into `dashboards/`, or into the directory given as an argument."""

from __future__ import annotations

import sys
from pathlib import Path

from . import DASHBOARDS


def main() -> None:
    folder = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1]
    for dashboard in DASHBOARDS:
        (folder / dashboard.file_name).write_text(dashboard.json())


if __name__ == "__main__":
    main()
