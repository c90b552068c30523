"""Reads `password_file: PATH` in the place of `password`, in every model that has a secret."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, get_args

from pydantic import SecretStr

from .annotations import files_of, is_model, is_secret, items_of, members, values_of
from .regular_file import read_regular_file

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from .problems import Path
    from .source import Source

_LARGEST = 64 * 1024  # bytes; a larger file is a wrong path


class FileSecret(SecretStr):
    """A secret from a file, which can be replaced while the agent runs."""

    def __init__(self, content: str, file: FilePath) -> None:
        super().__init__(content)
        self._file = file

    def read_again(self) -> str:
        """Return what the file has now; the known content if it cannot be read."""
        try:
            return _read(self._file)
        except (OSError, ValueError):
            return self.get_secret_value()


def with_file_contents(source: Source, kinds: list[Any], value: Any, path: Path) -> Any:
    """`value` with each `<secret>_file` replaced by `<secret>`; a file that cannot be read is reported and gives ``."""
    if isinstance(value, list):
        items = items_of(kinds)
        return [with_file_contents(source, items, item, (*path, index)) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    free = values_of(kinds)
    complete = {key: with_file_contents(source, free, item, (*path, key)) for key, item in value.items()}
    for model in kinds:
        if not is_model(model):
            continue
        for key, secret in files_of(model).items():
            if key in complete:
                file = complete.pop(key)
                if secret in value:
                    source.blame((*path, key), f"{secret!r} is set too; set only one of them")
                else:
                    source.from_file[(*path, secret)] = (*path, key)
                    content = _content(source, file, (*path, key))
                    if content is None:
                        source.fillers.add((*path, secret))
                    complete[secret] = content or ""
                    # pydantic checks constraints of text only.
                    if content is not None and _is_unconstrained(model.model_fields[secret]):
                        complete[secret] = FileSecret(content, FilePath(source.file).parent / file)
        for name, field in model.model_fields.items():
            if name in complete:
                if is_secret(field.annotation):
                    given = complete[name]
                    if isinstance(given, FileSecret):
                        source.secrets.add(given.get_secret_value())
                    elif isinstance(given, str):
                        source.secrets.add(str(given))
                complete[name] = with_file_contents(source, members(field.annotation), complete[name], (*path, name))
    return complete


def _is_unconstrained(field: FieldInfo) -> bool:
    kinds = get_args(field.annotation) or (field.annotation,)
    return not field.metadata and all(kind in (SecretStr, type(None)) for kind in kinds)


def _content(source: Source, value: Any, path: Path) -> str | None:
    """The text of the file without the line break at its end. None, with a problem reported, if it cannot be read."""
    if not isinstance(value, str) or not value:
        source.reject(path, value, "the path of a file")
        return None
    found = source.shown(path, value, is_path=True)
    try:
        return _read(FilePath(source.file).parent / value)
    except FileNotFoundError as missing:
        if source.allows_missing_secrets:
            source.missing_secrets[path] = value
        else:
            source.blame(path, f"{found} cannot be read: {missing.strerror}")
    except OSError as failure:
        source.blame(path, f"{found} cannot be read: {failure.strerror or failure}")
    except UnicodeDecodeError:
        source.blame(path, f"{found} is not UTF-8 text")
    except ValueError:
        source.blame(path, f"{found} contains an invalid character")
    return None


def _read(file: FilePath) -> str:
    content = read_regular_file(file, _LARGEST)
    if len(content) > _LARGEST:
        raise OSError(f"too large for a secret (limit {_LARGEST // 1024} KiB)")
    return content.decode("utf-8").rstrip("\r\n")
