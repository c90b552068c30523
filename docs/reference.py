"""Write the pages of the reference that are made from code: `python docs/reference.py`, with the agent installed.

`docs/reference/metrics.md` is the catalogue, `settings.md` the JSON schema of the config file, and `commands.md` the
command line.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deckwatch.cli import complete_parser
from deckwatch.cli.catalogue import catalogue
from deckwatch.collection.registry import Registry
from deckwatch.config import json_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = Path(__file__).resolve().parent / "reference"
_MADE = "<!-- Made by docs/reference.py. -->"


def pages() -> dict[str, str]:
    """The pages by file name."""
    made = {"metrics.md": _metrics(), "settings.md": _settings(), "commands.md": _commands()}
    return {name: "\n".join([_MADE, *lines]) + "\n" for name, lines in made.items()}


def _metrics() -> Iterator[str]:
    yield "# Metrics\n"
    yield "`deckwatch metrics` prints this list for what is installed. Metrics that a config declares are not in it.\n"
    entries = catalogue(Registry.installed())
    for exporter in sorted({entry.row[-1] for entry in entries}):
        yield f"## {exporter}\n\n| name | type | labels | help |\n|---|---|---|---|"
        for name, kind, labels, _unit, text, owner in (entry.row for entry in entries):
            if owner == exporter:
                yield f"| `{name}` | {kind} | {labels.replace(',', ', ')} | {_cell(text)} |"
        yield ""


def _settings() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # patterns as defaults have no JSON
        schema = json_schema(Registry.installed().loadable()[0])
    types = _Types(schema["$defs"])
    yield "# Settings\n"
    yield "`deckwatch config schema` prints the same as a JSON schema, for editors. A setting in bold is required.\n"
    yield "## Top level\n"
    sections = ("exporters", "logs")
    yield from types.table({**schema, "properties": _without(schema["properties"], sections)})
    for name, exporter in sorted(types.plain(schema["properties"]["exporters"])["properties"].items()):
        yield f"## exporters.{name}\n"
        for model in types.models(exporter):
            yield from types.table(model)
    yield "## logs\n"
    yield from types.table(types.plain(schema["properties"]["logs"]))


def _without(properties: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if name not in names}


class _Types:
    """Reads a JSON schema as pydantic makes it."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def plain(self, schema: Any) -> Any:
        """The schema without references, `null` and the text that an environment variable may give."""
        while "$ref" in schema or "anyOf" in schema:
            if "$ref" in schema:
                schema = self._definitions[schema["$ref"].rpartition("/")[2]]
                continue
            choices = [it for it in schema["anyOf"] if it.get("type") != "null" and not _is_environment(it)]
            if len(choices) != 1:
                break
            schema = choices[0]
        return schema

    def models(self, schema: Any) -> list[Any]:
        """The forms of a target: several where the kind decides which settings it takes."""
        schema = self.plain(schema)
        schema = self.plain(schema["items"]) if schema.get("type") == "array" else schema
        kinds = schema.get("oneOf") or schema.get("anyOf") or [schema]
        return [self.plain(kind) for kind in kinds]

    def table(self, model: Any) -> Iterator[str]:
        kind = model.get("properties", {}).get("kind", {}).get("const")
        if kind:
            client = "dsn" if "dsn" in model["properties"] else "url"
            yield f"**`kind: {kind}`** with `{client}`\n"
        yield "| setting | type | default |\n|---|---|---|"
        yield from self._rows(model, "")
        yield ""

    def _rows(self, model: Any, prefix: str) -> Iterator[str]:
        for name, given in model.get("properties", {}).items():
            schema = self.plain(given)
            item = self.plain(schema["items"]) if schema.get("type") == "array" and "items" in schema else schema
            path = f"{prefix}{name}"
            is_required = name in model.get("required", ())
            title = f"**`{path}`**" if is_required else f"`{path}`"
            yield f"| {title} | {_cell(self._type(given))} | {'' if is_required else _cell(_default(given))} |"
            if item.get("properties") and path.count(".") < 4:
                yield from self._rows(item, f"{path}{'[]' if item is not schema else ''}.")

    def _type(self, given: Any) -> str:
        schema = self.plain(given)
        description = given.get("description", schema.get("description", ""))
        if description.startswith(("A duration", "A size")):
            return str(description.split(":")[0].removeprefix("A ").split(" ")[0])
        if "enum" in schema:
            return " or ".join(f"`{value}`" for value in schema["enum"])
        if "const" in schema:
            return f"`{schema['const']}`"
        choices = [it for it in schema.get("anyOf", ()) if it.get("type") != "null" and not _is_environment(it)]
        if choices:
            return " or ".join(dict.fromkeys(self._type(choice) for choice in choices))
        match schema.get("type"):
            case "array":
                return f"list of {self._type(schema.get('items', {}))}"
            case "object":
                return "settings" if "properties" in schema else "mapping"
            case "string":
                return "secret" if schema.get("format") == "password" else "text"
            case None:
                return "any"
            case other:
                return str(other)


def _is_environment(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "string" and schema.get("pattern") == r"\$\{.*\}"


def _default(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    if default in (None, "", [], {}) or isinstance(default, dict):
        return ""
    if isinstance(default, list):
        return ", ".join(f"`{value}`" for value in default if not isinstance(value, dict))
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _commands() -> Iterator[str]:
    yield "# Commands\n"
    yield "`deckwatch COMMAND --help` and `deckwatch man` print the same.\n"
    yield from _options(complete_parser(), ("deckwatch",))


def _options(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> Iterator[str]:
    rows = []
    commands: list[tuple[str, argparse.ArgumentParser, str]] = []
    # argparse has no public way to list its arguments and commands.
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            commands += [(name, command, helps.get(name, "")) for name, command in action.choices.items()]
        elif action.help != argparse.SUPPRESS and "--help" not in action.option_strings:
            value = f" {action.metavar or action.dest.upper()}" if action.option_strings and action.nargs != 0 else ""
            names = ", ".join(action.option_strings) or str(action.metavar or action.dest)
            choices = f" One of: {', '.join(map(str, action.choices))}." if action.choices else ""
            rows.append(f"| `{names}{value}` | {_cell((action.help or '').replace('%%', '%') + choices)} |")
    if rows:
        yield "| argument | meaning |\n|---|---|"
        yield from rows
        yield ""
    for name, command, text in commands:
        yield f"## {' '.join((*path, name))}\n"
        if text:
            yield f"{text[0].upper()}{text[1:]}.\n"
        yield from _options(command, (*path, name))


def _cell(text: str) -> str:
    """A text in a table's cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
