"""Validates values as a model's settings, and turns pydantic's errors into problems with a place, in plain words."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from .annotations import field_of, is_model, is_secret, items_of, keys_of, members, tags_of, values_of
from .patterns import Pattern
from .problems import HIDDEN, without
from .secret_files import with_file_contents
from .values import parse_duration, parse_duration_or_zero, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .problems import Path
    from .source import Source

M = TypeVar("M", bound=BaseModel)


def validated(
    source: Source,
    model: type[M],
    values: dict[str, Any],
    path: Path,
    also_known: frozenset[str] | set[str] = frozenset(),
) -> M | None:
    """The `values` at `path` as a `model`. None, with the problems added to the source, if they are wrong.

    `also_known` are other valid keys at the same place, for messages about unknown ones.
    """
    complete = with_file_contents(source, members(model), values, path)
    settings, faults = None, []
    try:
        settings = model.model_validate(complete)
    except ValidationError as wrong:
        details: list[Any] = wrong.errors(include_url=False)
        faults = _decided([_locate(source, model, detail, path) for detail in details])
        for fault in faults:
            _blame(source, fault, path, also_known)
    said = {fault.path for fault in faults}
    for where, value in _truth_values(members(model), complete, path):
        if where not in said:
            source.reject(where, value, "a number")
            settings = None
    return settings


def _truth_values(kinds: list[Any], value: Any, path: Path) -> Iterator[tuple[Path, bool]]:
    """Find true and false in the place of numbers: pydantic accepts them as 1 and 0, and YAML reads `yes` as true."""
    if isinstance(value, bool):
        if kinds and all(kind in (int, float) for kind in kinds):
            yield path, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _truth_values(items_of(kinds), item, (*path, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _truth_values(field_of(kinds, key) or values_of(kinds), item, (*path, key))


def near(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'interval'?)`, or nothing without a close match."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


@dataclass(frozen=True)
class _Fault:
    """One of pydantic's errors, and where in the file it is.

    `choices` are the unions on the way: their place, and pydantic's name of the member that it tried.
    `kinds` are the types that are valid there.
    """

    path: Path
    kind: str
    detail: Any
    choices: tuple[tuple[Path, str], ...]
    kinds: tuple[Any, ...]
    is_secret: bool
    wanted: str = ""  # what would be right, where the key is missing
    alternatives: tuple[_Fault, ...] = ()  # one for each member of a union, where all refuse the value


def _locate(source: Source, model: type[BaseModel], detail: Any, path: Path) -> _Fault:
    """Follow pydantic's location along the types. It also contains names of union members, which no file has."""
    kinds, holders = members(model), members(model)
    is_undecided, hidden = len(kinds) > 1, False
    choices: list[tuple[Path, str]] = []
    location = detail["loc"]
    for index, part in enumerate(location):
        is_last = index == len(location) - 1
        if is_undecided:
            choices.append((path, str(part)))
            kinds = [kind for kind in kinds if str(part) in tags_of(kind)] or kinds
            # A member may itself be a union. Pydantic names its members by their tags, which are their classes.
            following = "" if is_last else location[index + 1]
            is_undecided = len(kinds) > 1 and any(following == getattr(kind, "__name__", "") for kind in kinds)
            continue
        inner = items_of(kinds) if isinstance(part, int) else field_of(kinds, part) or values_of(kinds)
        stands_there = (*path, part) in source.lines or (*path, part) in source.from_file
        is_absent_key = is_last and detail["type"] in ("missing", "extra_forbidden")
        if not stands_there and not is_absent_key and not (inner and not source.lines):
            continue  # the name of a validator, or `[key]`
        path = (*path, part)
        if not is_absent_key or detail["type"] == "missing":
            kinds, holders = inner, kinds
            hidden = hidden or any(map(is_secret, inner))
            is_undecided = len(inner) > 1
    if detail["type"].startswith("union_tag") and (*path, _discriminator(detail)) in source.lines:
        path = (*path, _discriminator(detail))
    wanted = _wanted(holders, str(path[-1]), hidden) if detail["type"] == "missing" else ""
    return _Fault(path, detail["type"], detail, tuple(choices), tuple(kinds), hidden, wanted)


def _discriminator(detail: Any) -> str:
    return str(detail["ctx"]["discriminator"]).strip("'")


def _decided(faults: list[_Fault], depth: int = 0) -> list[_Fault]:
    """The faults, with those of each union reduced to the member that was probably meant."""
    decided: list[_Fault] = []
    unions: dict[Path, dict[str, list[_Fault]]] = {}
    for fault in faults:
        if len(fault.choices) <= depth:
            decided.append(fault)
        else:
            place, tag = fault.choices[depth]
            unions.setdefault(place, {}).setdefault(tag, []).append(fault)
    for place, tried in unions.items():
        # A member that refuses the value as a whole was not meant if another one accepts its structure.
        inside = [faults for faults in tried.values() if not _refuses(faults, place)]
        if inside:
            decided += _decided(min(inside, key=_unlikeliness), depth + 1)
        else:
            first = next(iter(tried.values()))[0]
            alternatives = tuple(faults[0] for faults in tried.values())
            decided.append(replace(first, path=place, kind="none_of", choices=(), alternatives=alternatives))
    return decided


def _refuses(faults: list[_Fault], place: Path) -> bool:
    return len(faults) == 1 and faults[0].path == place


def _unlikeliness(faults: list[_Fault]) -> tuple[int, int]:
    """How unlikely it is that this member was meant: a literal (`kind: sql`) that differs counts most."""
    return sum(fault.kind == "literal_error" for fault in faults), len(faults)


def _blame(source: Source, fault: _Fault, base: Path, also_known: frozenset[str] | set[str]) -> None:
    path, kind = fault.path, fault.kind
    if kind == "extra_forbidden":
        known = sorted({*keys_of(list(fault.kinds)), *(also_known if path[:-1] == base else ())})
        listed = f"; there are: {', '.join(known)}" if known else ""
        source.blame(path, f"unknown key{near(str(path[-1]), known)}{listed}")
        return
    if kind == "missing":
        source.blame(path, f"is missing; expected {fault.wanted}", expected=fault.wanted)
        return
    if any(_is_within(path, other) or _is_within(other, path) for other in source.fillers):
        return  # already reported
    expected = _expected(fault, source.secrets)
    if kind.startswith("union_tag"):
        tag = fault.detail["ctx"].get("tag")
        if tag is None:
            source.blame((*path, _discriminator(fault.detail)), f"is missing; expected {expected}", expected=expected)
        else:
            source.reject(path, tag, expected)
    elif fault.is_secret and path not in source.from_file and path not in source.from_environment:
        source.blame(path, f"found {HIDDEN}; expected {expected}", HIDDEN, expected)
    else:
        found = source.shown(path, fault.detail["input"])
        source.blame(source.from_file.get(path, path), f"found {found}; expected {expected}", found, expected)


def _is_within(path: Path, other: Path) -> bool:
    return path[: len(other)] == other


_PLAIN = {
    "string_type": "text",
    "string_unicode": "text in Unicode",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a shorter whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "model_type": "a mapping of settings",
    "model_attributes_type": "a mapping of settings",
    "dict_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
}
_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("not below", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("not above", "le"),
}


def _expected(fault: _Fault, secrets: set[str]) -> str:
    kind, context = fault.kind, fault.detail.get("ctx", {})
    if kind == "none_of":
        return " or ".join(dict.fromkeys(_expected(each, secrets) for each in fault.alternatives))
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _BOUNDS:
        word, key = _BOUNDS[kind]
        return f"a number {word} {context[key]}"
    if kind == "string_pattern_mismatch":
        return f"text that matches {context['pattern']}"
    if kind in ("literal_error", "enum"):
        return _one_of(context["expected"])
    if kind == "union_tag_invalid":
        return _one_of(context["expected_tags"])
    if kind == "union_tag_not_found":
        return _wanted(fault.kinds, _discriminator(fault.detail), False)
    if kind in ("too_short", "string_too_short", "too_long", "string_too_long"):
        # Without the actual length: the value may be a secret.
        bound = f"at least {context['min_length']}" if kind.endswith("short") else f"at most {context['max_length']}"
        return f"{bound} {'characters' if isinstance(fault.detail['input'], str) else 'items'}"
    if kind in ("value_error", "assertion_error"):
        return without(str(context["error"]), secrets)
    message = str(fault.detail["msg"]).removeprefix("Input should be ")
    return without(message[0].lower() + message[1:], secrets)


def _one_of(alternatives: str) -> str:
    return f"one of {alternatives}" if "," in alternatives or " or " in alternatives else alternatives


_WORDS: dict[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "a mapping",
    list: "a list",
    tuple: "a list",
    set: "a list",
    frozenset: "a list",
    Pattern: "a regular expression",
}
_FORMATS: dict[Any, str] = {
    parse_duration: "a duration such as 15s, 1m30s or 500ms",
    parse_duration_or_zero: "0 or a duration such as 15s, 1m30s or 500ms",
    parse_size: "a size such as 512MiB or 10MB",
}


def _wanted(models: Iterable[Any], name: str, has_file: bool) -> str:
    """Describe the valid values of a key in these models."""
    words: list[str] = []
    literals: list[str] = []
    for model in models:
        if not is_model(model) or name not in model.model_fields:
            continue
        field = model.model_fields[name]
        formats = [_FORMATS[it.func] for it in field.metadata if getattr(it, "func", None) in _FORMATS]
        for kind in members(field.annotation):
            origin = get_origin(kind)
            if origin is Literal:
                literals += [repr(value) for value in get_args(kind)]
            elif is_model(kind):
                words.append("a mapping of settings")
            elif is_secret(kind):
                words.append("text")
            else:
                words.append(formats[0] if formats else _WORDS.get(origin or kind, "a value"))
    if literals:
        words.insert(0, _one_of(", ".join(dict.fromkeys(literals))))
    if has_file:
        words.append(f"the path of a file that holds it as `{name}_file`")
    return ", or ".join(dict.fromkeys(words)) or "a value"
