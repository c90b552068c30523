"""Labels that come from the path of a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from deckwatch.config.log_settings import FileSettings
from deckwatch.logs.parsing.counts import Counts
from deckwatch.logs.parsing.parser import Parser

if TYPE_CHECKING:
    from pathlib import Path

CRI = b"2024-05-01T10:00:00.5Z stdout F hello"
DOCKER = b'{"log":"hello\\n","stream":"stdout","time":"2024-05-01T10:00:00.5Z"}'
_UID = "0f4f1fb8-3c0d-4a6e-9a3f-2b1f5e1c7a11"


def labels(path: Path | str, line: bytes, problems: list[str] | None = None, **settings: Any) -> dict[str, str]:
    parser = Parser(FileSettings(path="/x", filename_label=False, **settings), str(path), {}, Counts())
    (entry,) = parser.feed([line], 0)
    if problems is not None:
        problems += parser.problems
    return dict(entry.labels)


@pytest.mark.parametrize("uid", [_UID, _UID.replace("-", "")])
def test_a_pod_log_has_namespace_pod_and_container(uid: str) -> None:
    path = f"/var/log/pods/shop_web-7d9f-x2x_{uid}/app/0.log"
    found = labels(path, CRI, format="cri")
    assert found == {"namespace": "shop", "pod": "web-7d9f-x2x", "container": "app"}


def test_fixed_labels_replace_those_of_the_pod() -> None:
    found = labels(f"/var/log/pods/shop_web_{_UID}/app/0.log", CRI, format="cri", labels={"pod": "all"})
    assert found == {"namespace": "shop", "pod": "all", "container": "app"}


def test_another_cri_file_has_no_labels_of_a_pod() -> None:
    assert labels("/var/log/app.log", CRI, format="cri") == {}


def test_a_docker_log_has_name_image_and_compose_service(tmp_path: Path) -> None:
    config = {"Name": "/shop-web-1", "Config": {"Image": "web:2", "Labels": {"com.docker.compose.service": "web"}}}
    (tmp_path / "config.v2.json").write_text(json.dumps(config))
    found = labels(tmp_path / "abc-json.log", DOCKER, format="docker")
    assert found == {"container": "shop-web-1", "image": "web:2", "compose_service": "web"}


@pytest.mark.parametrize("config", ["[]", '{"Name": 3, "Config": []}', '{"Config": {"Labels": null}}'])
def test_an_unusual_docker_config_gives_no_labels(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.v2.json").write_text(config)
    assert labels(tmp_path / "abc-json.log", DOCKER, format="docker") == {}


def test_a_damaged_docker_config_is_reported(tmp_path: Path) -> None:
    (tmp_path / "config.v2.json").write_text("{")
    problems: list[str] = []
    assert labels(tmp_path / "abc-json.log", DOCKER, problems, format="docker") == {}
    assert "not JSON" in problems[0]


def test_named_groups_of_path_labels_are_labels() -> None:
    problems: list[str] = []
    settings = {"format": "raw", "path_labels": "/apps/(?P<app>[^/]+)/(?P<env>prod|test)?"}
    assert labels("/srv/apps/shop/prod/a.log", b"x", problems, **settings) == {"app": "shop", "env": "prod"}
    assert labels("/srv/apps/shop/a.log", b"x", problems, **settings) == {"app": "shop"}
    assert not problems
    assert labels("/srv/a.log", b"x", problems, **settings) == {}
    assert "path_labels does not match" in problems[0]


@pytest.mark.parametrize("pattern", ["/apps/([^/]+)/", "(?P<app", "(?=x)(?P<a>x)"])
def test_path_labels_without_names_or_with_a_wrong_expression_are_refused(pattern: str) -> None:
    with pytest.raises(ValidationError):
        FileSettings(path="/x", path_labels=pattern)
