"""Settings of a destination, from the config file to the requests: extra headers and a proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from http_proxy import http_proxy
from log_shipping import await_lines, config, following, log_records, new_job, shipper
from loki import loki

if TYPE_CHECKING:
    from pathlib import Path


def test_lines_go_through_the_proxy_with_the_headers_and_no_secret_is_shown(tmp_path: Path) -> None:
    job, log = new_job(), tmp_path / "app.json"
    log.write_text("plain line\n")
    with loki() as double, http_proxy("ann:h1dden") as proxy:
        (tmp_path / "proxy").write_text(proxy.url.replace("://", "://ann:h1dden@") + "\n")
        destination = {
            "url": double.url,
            "headers": {"X-Api-Key": "k3y"},
            "proxy_url_file": str(tmp_path / "proxy"),
        }
        with shipper(tmp_path, config([destination], [following(log, job)])) as program:
            await_lines(double, job, ["plain line"])
            assert proxy.seen[0] == f"POST {double.url}/loki/api/v1/push HTTP/1.1"
            assert double.requests[0].headers["X-Api-Key"] == "k3y"
            shown = program.printed + program.metrics() + str(log_records(program))
            assert "h1dden" not in shown
            assert "k3y" not in shown
