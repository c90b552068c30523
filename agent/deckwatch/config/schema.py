"""The JSON schema of the config file, for editors (draft 2020-12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, SecretStr
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from .model import AgentSettings, CommonSettings, NamedSettings

if TYPE_CHECKING:
    from deckwatch.registry import Registry

_REFERENCES = "#/$defs/{model}"


def json_schema(registry: Registry) -> dict[str, Any]:
    """The schema of the whole file, with the settings of every exporter that is installed."""
    exporters = {name: registry.get(name) for name in registry.names()}
    models: list[type[BaseModel]] = [AgentSettings, CommonSettings, NamedSettings]
    models += [exporter.settings for exporter in exporters.values()]
    names, schema = models_json_schema([(model, "validation") for model in models], ref_template=_REFERENCES)
    definitions = schema["$defs"]
    properties = {}
    for name, exporter in exporters.items():
        own = definitions[_name_of(names, exporter.settings)]
        shared = definitions[_name_of(names, NamedSettings if exporter.named else CommonSettings)]
        target = {
            "type": "object",
            "description": own.get("description", ""),
            "properties": {**own.get("properties", {}), **shared["properties"]},
            "required": [*own.get("required", []), *shared.get("required", [])],
            "additionalProperties": False,
        }
        _offer_files(target, exporter.settings)
        properties[name] = (
            {"type": "array", "items": target} if exporter.named else {"anyOf": [target, {"type": "null"}]}
        )
    top = dict(definitions[_name_of(names, AgentSettings)])
    top["properties"] = {
        **top["properties"],
        "exporters": {
            "anyOf": [
                {"type": "object", "properties": properties, "additionalProperties": False},
                {"type": "null"},
            ]
        },
    }
    return {"$schema": GenerateJsonSchema.schema_dialect, "title": "deckwatch.yml", **top, "$defs": definitions}


def _name_of(names: Any, model: type[BaseModel]) -> str:
    reference: str = names[model, "validation"]["$ref"]
    return reference.rsplit("/", 1)[-1]


def _offer_files(target: dict[str, Any], model: type[BaseModel]) -> None:
    """A secret may stand in a file: `password_file` instead of `password`."""
    for name, field in model.model_fields.items():
        if field.annotation is SecretStr or SecretStr in getattr(field.annotation, "__args__", ()):
            target["properties"][f"{name}_file"] = {"type": "string", "description": f"A file that holds {name!r}."}
            if name in target["required"]:
                target["required"] = [key for key in target["required"] if key != name]
                target["oneOf"] = [{"required": [name]}, {"required": [f"{name}_file"]}]
