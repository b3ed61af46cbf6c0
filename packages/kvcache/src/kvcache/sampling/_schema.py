"""From a JSON schema to the regular expression of some of its documents, in one order of keys and one layout."""

import json
import re
from typing import Any

STRING = r'([^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})'
SIMPLE = {
    "integer": r"-?(0|[1-9][0-9]*)",
    "number": r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?",
    "boolean": "(true|false)",
    "null": "null",
}
TAKEN = {
    "string": {"minLength", "maxLength"},
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
}
NOTES = {"type", "title", "description", "default", "examples", "$schema", "$id"}


def schema_regex(schema: Any) -> str:  # noqa: ANN401 - whatever a file of JSON holds
    """Return a regular expression all of whose matches are valid JSON for ``schema``.

    Objects get all their properties, required or not, in the order of the schema, with at most one space behind ``:``
    and ``,``. Taken are type (or several), properties, required, items with minItems and maxItems, minLength and
    maxLength, enum, const and anyOf. Raises ValueError for any other keyword that restricts, naming it.
    """
    if not isinstance(schema, dict):
        msg = f"a schema is an object, not {json.dumps(schema)}"
        raise ValueError(msg)  # noqa: TRY004 - what a user's file holds
    for name in ("const", "enum", "anyOf"):
        if name in schema:
            _refuse_more(schema, {name})
            if name == "anyOf":
                return "(" + "|".join(schema_regex(each) for each in schema[name]) + ")"
            values = [schema[name]] if name == "const" else schema[name]
            return "(" + "|".join(re.escape(json.dumps(value, ensure_ascii=False)) for value in values) + ")"
    kind = schema.get("type")
    if isinstance(kind, list):
        return "(" + "|".join(schema_regex({**schema, "type": each}) for each in kind) + ")"
    if kind not in (*SIMPLE, *TAKEN):
        msg = f"a schema needs a type among {', '.join((*SIMPLE, *TAKEN))}, or enum, const or anyOf; its type is {kind}"
        raise ValueError(msg)
    _refuse_more(schema, TAKEN.get(kind, set()))
    if kind == "string":
        return f'"{STRING}{_times(schema, "minLength", "maxLength")}"'
    if kind == "array":
        return _array(schema)
    return _object(schema) if kind == "object" else SIMPLE[kind]


def _object(schema: dict[str, Any]) -> str:
    properties = schema.get("properties", {})
    missing = set(schema.get("required", [])) - set(properties)
    if missing:
        msg = f"required {', '.join(sorted(missing))} without a schema in properties"
        raise ValueError(msg)
    pairs = [f"{re.escape(json.dumps(name, ensure_ascii=False))}: ?{schema_regex(s)}" for name, s in properties.items()]
    return r"\{" + ", ?".join(pairs) + r"\}"


def _array(schema: dict[str, Any]) -> str:
    if "items" not in schema:
        msg = "an array needs items"
        raise ValueError(msg)
    item, least, most = schema_regex(schema["items"]), schema.get("minItems", 0), schema.get("maxItems")
    if most == 0 and least == 0:
        return r"\[\]"
    rest = _times({"a": max(least - 1, 0)} | ({} if most is None else {"b": most - 1}), "a", "b")
    some = f"{item}(, ?{item}){rest}"
    return rf"\[{some}\]" if least else rf"\[({some})?\]"


def _times(schema: dict[str, Any], least: str, most: str) -> str:
    low, high = schema.get(least, 0), schema.get(most)
    if not isinstance(low, int) or low < 0 or (high is not None and (not isinstance(high, int) or high < low)):
        msg = f"{least} {low} and {most} {high}: numbers in order are wanted, not below 0"
        raise ValueError(msg)
    return f"{{{low},{'' if high is None else high}}}"


def _refuse_more(schema: dict[str, Any], taken: set[str]) -> None:
    more = set(schema) - taken - NOTES
    if more:
        msg = f"the schema's {', '.join(sorted(more))} cannot be kept to here"
        raise ValueError(msg)
