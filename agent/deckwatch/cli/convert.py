"""`deckwatch convert`: another tool's config as a config of Deckwatch, and what of it was not converted."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import yaml

from deckwatch.collection.registry import Registry
from deckwatch.convert.conversion import NotConvertible, Note
from deckwatch.logs.printable import printable_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from deckwatch.convert.conversion import Conversion

#: The formats, with the module that converts each and its one-line help. The module has `convert(text)`.
FORMATS: Mapping[str, tuple[str, str]] = {
    "sql_exporter": ("deckwatch.convert.sql_exporter", "sql_exporter's config or a collector file"),
    "query-exporter": ("deckwatch.convert.query_exporter", "query-exporter's config"),
    "promtail": ("deckwatch.convert.promtail", "Promtail's config"),
    "postgres_exporter": ("deckwatch.convert.postgres_exporter", "postgres_exporter's queries.yaml"),
}
_MAX_BYTES = 16 * 1024**2


def configure(parser: argparse.ArgumentParser) -> None:
    formats = parser.add_subparsers(metavar="FORMAT", required=True)
    for name, (module, help_text) in FORMATS.items():
        command = formats.add_parser(name, help=help_text)
        command.add_argument("file", metavar="FILE", help=help_text)
        command.set_defaults(command=_convert, module=module)


def _convert(options: argparse.Namespace) -> int:
    """Print the config, and notes to stderr. 0 when everything was converted, 2 for a wrong file, else 3."""
    try:
        with open(options.file, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise NotConvertible(f"larger than {_MAX_BYTES // 1024**2} MiB")
        converted = importlib.import_module(options.module).convert(content.decode())
    except OSError as failure:
        return _refused(options.file, f"cannot be read: {failure.strerror}")
    except UnicodeDecodeError:
        return _refused(options.file, "is not UTF-8 text")
    except NotConvertible as wrong:
        return _refused(f"{options.file}:{wrong.line}" if wrong.line else options.file, str(wrong))
    _note_built_in_names(converted)
    dumped = yaml.dump(converted.config, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    sys.stdout.write(dumped)
    for note in sorted(converted.notes, key=lambda note: note.line):
        place = f"{options.file}:{note.line}" if note.line else options.file
        print(printable_line(f"{place}: {note.what}"), file=sys.stderr)  # noqa: T201  this is the command line
    return 3 if any(note.is_lost for note in converted.notes) else 0


def _note_built_in_names(converted: Conversion) -> None:
    """Add a note for each metric that the config cannot declare, because an exporter has it already."""
    registry = Registry.installed()
    for target in converted.config.get("exporters", {}).get("business", ()):
        metrics = [*target.get("metrics", ()), *(it for query in target.get("queries", ()) for it in query["metrics"])]
        for name in (metric["name"] for metric in metrics):
            if exporter := registry.exporter_of(name):
                what = f"{name}: it is a built-in metric of the {exporter} exporter. Remove or rename it."
                converted.notes.append(Note(0, what, is_lost=True))


def _refused(place: str, why: str) -> int:
    print(printable_line(f"{place}: {why}"), file=sys.stderr)  # noqa: T201  this is the command line
    return 2


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
