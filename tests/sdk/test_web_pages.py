"""The examples in the pages on web frameworks work as a whole, in a real application that an agent reads."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from sdk.web_apps import IS_INSTALLED, serving, value
from services import ROOT, fetch, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason="FastAPI, Flask and Django are not installed: make services")

DJANGO = """
SECRET_KEY = "tests only"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
"""
_GUNICORN = ("gunicorn", "main:app", "--bind", "127.0.0.1:{port}")
COMMANDS = {
    "fastapi": ("uvicorn", "main:app", "--port", "{port}"),
    "flask": _GUNICORN,
    "django": ("gunicorn", "django.core.wsgi:get_wsgi_application()", "--bind", "127.0.0.1:{port}"),
}


def examples(page: str) -> dict[str, str]:
    """The Python examples by the file that their first line names."""
    files: dict[str, str] = {}
    for example in re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL):
        named = re.match(r"# (\w+\.py)\n", example)
        name = named[1] if named else "main.py"
        files[name] = files.get(name, "") + example
    return files


@pytest.mark.parametrize("framework", COMMANDS)
def test_the_examples_of_a_page_measure_requests_and_serve_health_checks(framework: str, tmp_path: Path) -> None:
    files = examples(f"{framework}.md")
    if framework == "django":
        files["settings.py"] = DJANGO + files["settings.py"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    environ = {"DJANGO_SETTINGS_MODULE": "settings"} if framework == "django" else {}
    with serving(tmp_path, *COMMANDS[framework], ready="/health", **environ) as shop:
        assert json.loads(fetch(f"{shop.web.url}/health/dependencies")[1])[0]["status"] == "ok"
        assert fetch(f"{shop.web.url}/none")[0] == 404
        labels = {"service": "shop", "method": "GET", "route": "unmatched", "status": "404"}
        until(lambda: value(shop.metrics(), "http_requests_total", **labels) == 1, what="the request")
        check = {"service": "shop", "check": "database", "critical": "true"}
        assert value(shop.metrics(), "health_check_success", **check) == 1


@pytest.mark.parametrize("framework", COMMANDS)
def test_a_page_starts_with_five_lines(framework: str) -> None:
    first = re.search(
        r"^```python\n(.*?)^```", (ROOT / "docs" / f"{framework}.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert first is not None
    lines = [line for line in first[1].splitlines() if not line.startswith("# ")]
    assert len(lines) == 5
