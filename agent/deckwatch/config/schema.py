"""The JSON schema of the config file, for editors (draft 2020-12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from .annotations import files_of, is_model, members
from .model import AgentSettings, CommonSettings, NamedSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema

    from .exporters import ConfigurableExporter

_REFERENCES = "#/$defs/{model}"


class _Generator(GenerateJsonSchema):
    """pydantic's schema, extended by what the file allows as well: `${ENV}` and `password_file`."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        if "properties" in made:
            _offer_files(made, schema["cls"])
        return made

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return _or_reference(super().int_schema(schema))

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return _or_reference(super().float_schema(schema))

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        return _or_reference(super().bool_schema(schema))

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        return _or_reference(super().literal_schema(schema))

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        return _or_reference(super().enum_schema(schema))

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        made = super().str_schema(schema)
        return _or_reference(made) if made.keys() & {"pattern", "minLength", "maxLength"} else made

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        made = super().tagged_union_schema(schema)
        if "oneOf" in made:
            made["anyOf"] = made.pop("oneOf")  # with `kind: ${KIND}` it may be any of them
        return made


def _or_reference(made: JsonSchemaValue) -> JsonSchemaValue:
    return {"anyOf": [made, {"type": "string", "pattern": r"\$\{.*\}"}]}


def _offer_files(made: JsonSchemaValue, model: type[BaseModel]) -> None:
    """Allow `password_file` instead of `password`, but not both."""
    for key, secret in files_of(model).items():
        made["properties"][key] = {"type": "string", "description": f"The path of a file that holds {secret!r}."}
        if secret in made.get("required", ()):
            made["required"] = [name for name in made["required"] if name != secret]
            rule: dict[str, Any] = {"oneOf": [{"required": [secret]}, {"required": [key]}]}
        else:
            rule = {"not": {"required": [secret, key]}}
        made.setdefault("allOf", []).append(rule)


def json_schema(exporters: Mapping[str, ConfigurableExporter]) -> dict[str, Any]:
    """The schema of the whole file, with the settings of these exporters."""
    from .log_settings import LogsSettings  # an agent that ships no logs does not load it

    own = {
        name: [kind for kind in members(exporter.settings) if is_model(kind)] for name, exporter in exporters.items()
    }
    models = dict.fromkeys(
        [AgentSettings, CommonSettings, NamedSettings, LogsSettings, *(it for kinds in own.values() for it in kinds)]
    )
    names, schema = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REFERENCES, schema_generator=_Generator
    )
    definitions: dict[str, Any] = schema["$defs"]

    def definition(model: type[BaseModel]) -> dict[str, Any]:
        reference: str = names[model, "validation"]["$ref"]
        return definitions[reference.rsplit("/", 1)[-1]]  # type: ignore[no-any-return]  # pydantic's are dicts of Any

    properties = {}
    for name, exporter in exporters.items():
        shared = definition(NamedSettings if exporter.named else CommonSettings)
        target = _any_of(_with_common_keys(definition(kind), shared) for kind in own[name])
        properties[name] = {"type": "array", "items": target} if exporter.named else _any_of([target, {"type": "null"}])
    top = dict(definition(AgentSettings))
    watched = {"type": "object", "properties": properties, "additionalProperties": False}
    top["properties"] = {
        **top["properties"],
        "exporters": _any_of([watched, {"type": "null"}]),
        "logs": _any_of([definition(LogsSettings), {"type": "null"}]),
    }
    top["patternProperties"] = {"^x-": {}}  # for YAML anchors
    return {"$schema": GenerateJsonSchema.schema_dialect, **top, "title": "deckwatch.yml", "$defs": definitions}


def _any_of(schemas: Iterable[dict[str, Any]]) -> dict[str, Any]:
    alternatives = list(schemas)
    return alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}


def _with_common_keys(own: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    return {
        **own,
        "properties": {**own.get("properties", {}), **shared["properties"]},
        "required": [*own.get("required", []), *shared.get("required", [])],
        "additionalProperties": False,
    }
