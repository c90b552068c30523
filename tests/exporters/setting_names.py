"""The settings of an exporter by dotted name, for tests that show the effect of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, RootModel

from services import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


def setting_names(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Return the names of all settings as in the config, those of nested models as `scan.max_keys`."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        path = prefix + (field.alias or name)
        nested = [it for it in models_in(field.annotation) if not issubclass(it, RootModel)]
        found |= set().union(*(setting_names(it, f"{path}.") for it in nested)) if nested else {path}
    return found


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in a type such as `tuple[Model, ...]` or a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def shown_by_test(test: str) -> bool:
    """Whether a test of this name (`system/test_cpu.py::test_...`) exists below `exporters` or `integration`."""
    file, name = test.split("::")
    for folder in ("exporters", "integration"):
        path = ROOT / "tests" / folder / file
        if path.is_file() and f"def {name}(" in path.read_text():
            return True
    return False
