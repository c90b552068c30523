"""The types of settings, read as their structure: what stands within what, and what is a secret."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, RootModel, SecretStr

_LISTS = (list, tuple, set, frozenset)


def members(annotation: Any) -> list[Any]:
    """What a value may be: the members of a union, without None and `Annotated`; else the type itself."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return members(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [member for part in get_args(annotation) for member in members(part)]
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        return members(annotation.model_fields["root"].annotation)
    return [] if annotation in (None, type(None)) else [annotation]


def is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def is_secret(annotation: Any) -> bool:
    return any(isinstance(kind, type) and issubclass(kind, SecretStr) for kind in members(annotation))


def items_of(kinds: list[Any]) -> list[Any]:
    """What the items of a list may be."""
    return [
        member
        for kind in kinds
        if get_origin(kind) in _LISTS
        for part in get_args(kind)
        if part is not Ellipsis
        for member in members(part)
    ]


def values_of(kinds: list[Any]) -> list[Any]:
    """What the values of a mapping with free keys may be."""
    return [member for kind in kinds if _is_mapping(kind) for member in members(get_args(kind)[1])]


def _is_mapping(kind: Any) -> bool:
    origin = get_origin(kind)
    return isinstance(origin, type) and len(get_args(kind)) == 2 and hasattr(origin, "keys")


def field_of(kinds: list[Any], key: str) -> list[Any]:
    """What the value of a key may be, in the models that have it."""
    return [
        member
        for kind in kinds
        if is_model(kind) and key in kind.model_fields
        for member in members(kind.model_fields[key].annotation)
    ]


def files_of(model: type[BaseModel]) -> dict[str, str]:
    """`{"password_file": "password"}`: the keys that name a file for a secret. A field of that name comes first."""
    return {
        f"{name}_file": name
        for name, field in model.model_fields.items()
        if is_secret(field.annotation) and f"{name}_file" not in model.model_fields
    }


def keys_of(kinds: list[Any]) -> set[str]:
    """The keys that models take."""
    return {key for kind in kinds if is_model(kind) for key in (*kind.model_fields, *files_of(kind))}


def tags_of(kind: Any) -> set[str]:
    """The names that pydantic can give to a member of a union: its class, or the literals of its fields."""
    if not is_model(kind):
        return {getattr(kind, "__name__", ""), str(kind)}
    literals = {
        str(value)
        for field in kind.model_fields.values()
        if get_origin(field.annotation) is Literal
        for value in get_args(field.annotation)
    }
    return {kind.__name__, *literals}
