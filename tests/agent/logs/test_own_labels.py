"""The agent's own log carries the instance, so that events of one agent can be selected."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from deckwatch.config.log_settings import LogsSettings

_HOST = {"job": "deckwatch", "instance": socket.gethostname()}


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"loki": {"url": "http://loki:3100"}}, _HOST),
        ({"loki": {"url": "http://loki:3100", "labels": {"env": "prod"}}}, _HOST),
        ({"loki": {"url": "http://loki:3100", "labels": {"instance": "web1:9797"}}}, {"job": "deckwatch"}),
        ({"loki": {"url": "http://loki:3100"}, "own_labels": {"job": "watch"}}, {"job": "watch"}),
    ],
    ids=["by default", "beside other labels", "not in place of the destination's instance", "not in a config's own"],
)
def test_the_name_of_the_host_is_the_instance(settings: dict[str, Any], labels: dict[str, str]) -> None:
    assert LogsSettings.model_validate(settings).labels_of_own == labels
