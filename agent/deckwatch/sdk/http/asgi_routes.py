"""The route template of an ASGI request, as its framework's router left it in the scope."""

from collections.abc import Iterable, MutableMapping
from typing import Any

from deckwatch.sdk.http.requests import UNMATCHED

_REST = "/{path}"


def route_of(scope: MutableMapping[str, Any], root: Any, root_path: str) -> str:
    """The template of the route that answered, or `unmatched`.

    `root` is the outermost application and `root_path` that of the scope when the request began: applications that are
    mounted change both.
    """
    template = scope.get("path_template")  # Litestar
    if template is not None:
        return str(template)
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return UNMATCHED
    own = _own_template(scope, endpoint)
    prefix = scope.get("root_path", "")[len(root_path) :]
    if not prefix:
        return own or UNMATCHED
    return _mount_template(getattr(root, "routes", ()), prefix) + (own or _REST)


def _own_template(scope: MutableMapping[str, Any], endpoint: Any) -> str:
    """The template relative to the innermost mount; empty if the mounted application has no routes or none matched."""
    route = scope.get("route")
    # FastAPI since 0.13x: a router that is included keeps its routes without the prefix.
    context = scope.get("fastapi", {}).get("effective_route_context")
    if context is not None and getattr(context, "original_route", None) is route:
        return str(context.path_format)
    if hasattr(route, "endpoint"):
        return str(getattr(route, "path_format", None) or getattr(route, "path", ""))
    # Older versions of Starlette leave the endpoint only.
    same = [it for it in getattr(scope.get("app"), "routes", ()) if getattr(it, "endpoint", None) is endpoint]
    if len(same) > 1:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        same = [it for it in same if it.path_regex.match(path)]
    return str(same[0].path_format) if same else ""


def _mount_template(routes: Iterable[Any], prefix: str) -> str:
    """The template of the mounts that lead to `prefix`."""
    for route in routes:
        if not hasattr(route, "path_regex") or hasattr(route, "endpoint"):
            continue
        found = route.path_regex.match(f"{prefix}/")
        if found is None or "path" not in found.groupdict():
            continue
        rest = found["path"].rstrip("/")
        if not rest:
            return str(route.path)
        deeper = _mount_template(getattr(route, "routes", None) or (), f"/{rest}")
        if deeper:
            return f"{route.path}{deeper}"
    return "/{mount}"
