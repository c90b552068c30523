"""Labels from the path of a file: `path_labels`, pods of Kubernetes and containers of Docker.

Sources: the kubelet's layout `/var/log/pods/NAMESPACE_POD_UID/CONTAINER/N.log`; the `config.v2.json` that Docker
keeps beside the log of a container.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from deckwatch.logs.entry import shown_path

if TYPE_CHECKING:
    from deckwatch.config.log_settings import FileSettings

# Names of Kubernetes contain no underscore. The UID of a static pod is a hash without dashes.
_POD: Final = re.compile(
    r"/(?P<namespace>[a-z0-9.-]+)_(?P<pod>[a-z0-9.-]+)_[0-9a-f-]{32,36}/(?P<container>[a-z0-9.-]+)/\d+\.log[^/]*\Z"
)
_MAX_CONFIG: Final = 4 * 1024 * 1024


def labels_of_path(settings: FileSettings, path: str, problems: list[str]) -> dict[str, str]:
    """Return the labels of a file. Adds to `problems` why labels are missing."""
    labels: dict[str, str] = {}
    if settings.format == "cri" and (pod := _POD.search(path)):
        labels = pod.groupdict()
    elif settings.format == "docker":
        labels = _docker(path, problems)
    if settings.path_labels is not None:
        found = settings.path_labels.named_groups(shown_path(path))
        if found is None:
            problems.append("path_labels does not match this path: its lines have no labels from it")
        labels |= found or {}
    return labels


def _docker(path: str, problems: list[str]) -> dict[str, str]:
    config = os.path.join(os.path.dirname(path), "config.v2.json")
    try:
        with open(config, "rb") as file:
            known = orjson.loads(file.read(_MAX_CONFIG))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
        problems.append(f"{config} cannot be read ({reason}): lines have no labels of the container")
        return {}
    inner = _of(known, "Config")
    service = _of(inner, "Labels").get("com.docker.compose.service")
    values = {"container": _of(known).get("Name"), "image": inner.get("Image"), "compose_service": service}
    return {name: value.removeprefix("/") for name, value in values.items() if isinstance(value, str) and value}


def _of(value: Any, name: str | None = None) -> dict[str, Any]:
    found = value.get(name) if name is not None and isinstance(value, dict) else value
    return found if isinstance(found, dict) else {}
