"""Makes the demo's passwords, once, and a folder that its load may write into: prepare.py SECRETS LOGS."""

import secrets
import sys
from pathlib import Path


def main(folder: Path, logs: Path) -> None:
    for name in ("redis", "postgres", "app", "monitor"):
        file = folder / name
        if not file.exists():  # PostgreSQL keeps those it was created with
            partial = file.with_suffix(".new")
            partial.write_text(secrets.token_urlsafe(24))
            partial.chmod(0o444)  # for the users of several containers, none of which has another's volume
            partial.rename(file)
    logs.chmod(0o1777)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
