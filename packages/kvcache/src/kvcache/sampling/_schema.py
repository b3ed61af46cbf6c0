"""From a JSON schema to the regular expression of its documents, in one order of keys and one layout."""

import json
import re
from collections.abc import Sequence
from typing import Any

# A character is one of Unicode, not of UTF-16: an escaped pair of surrogates counts once, half a pair never comes.
HEX = "[0-9a-fA-F]"
PLAIN = rf"([0-9a-cefA-CEF]{HEX}{{3}}|[dD][0-7]{HEX}{{2}})"
PAIR = rf"[dD][89abAB]{HEX}{{2}}\\u[dD][c-fC-F]{HEX}{{2}}"
CHARACTER = rf'([^"\\\x00-\x1f]|\\(["\\/bfnrt]|u({PLAIN}|{PAIR})))'
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
KINDS = (*SIMPLE, *TAKEN)
CLASSES: dict[str, Any] = {"string": str, "object": dict, "array": list, "boolean": bool, "null": type(None)}
NOTES = {"title", "description", "default", "examples", "$schema", "$id"}


def schema_regex(schema: Any) -> str:  # noqa: ANN401 - whatever a file of JSON holds
    """Return a regular expression all of whose matches are valid JSON for ``schema``.

    Objects have the properties of the schema, those that are not required or not, in its order, with at most one space
    behind ``:`` and ``,``. Taken are type (or several), properties, required, items with minItems and maxItems,
    minLength and maxLength, enum, const and anyOf. Raises ValueError for any other keyword that restricts, naming it,
    and for what is no schema.
    """
    if not isinstance(schema, dict):
        msg = f"a schema is an object, not {json.dumps(schema)}"
        raise ValueError(msg)  # noqa: TRY004 - what a user's file holds
    kinds = schema.get("type", KINDS)
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(kinds, list | tuple) or not kinds or not all(kind in KINDS for kind in kinds):
        msg = f"a schema's type is among {', '.join(KINDS)}, not {json.dumps(schema['type'])}"
        raise ValueError(msg)
    for name in ("const", "enum", "anyOf"):
        if name in schema:
            _refuse_more(schema, {name} if name == "anyOf" else {name, "type"})
            choices = [schema[name]] if name == "const" else schema[name]
            if not isinstance(choices, list) or not choices:
                msg = f"{name} is {json.dumps(choices)}, must be an array with something in it"
                raise ValueError(msg)
            if name == "anyOf":
                return _either([schema_regex(each) for each in choices])
            fitting = [value for value in choices if any(_is(value, kind) for kind in kinds)]
            if not fitting:
                msg = f"{name} {json.dumps(choices)} has nothing of type {', '.join(kinds)}"
                raise ValueError(msg)
            return _either([_literal(value) for value in fitting])
    if "type" not in schema:
        msg = f"a schema needs a type among {', '.join(KINDS)}, or enum, const or anyOf"
        raise ValueError(msg)
    _refuse_more(schema, {"type"}.union(*(TAKEN.get(kind, set()) for kind in kinds)))
    return _either([_of_kind(kind, schema) for kind in kinds])


def _of_kind(kind: str, schema: dict[str, Any]) -> str:
    if kind == "string":
        least, most = _limits(schema, "minLength", "maxLength")
        return f'"{CHARACTER}{{{least},{"" if most is None else most}}}"'
    if kind == "array":
        return _array(schema)
    return _object(schema) if kind == "object" else SIMPLE[kind]


def _object(schema: dict[str, Any]) -> str:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        msg = f"properties are an object and required an array, not {json.dumps([properties, required])}"
        raise ValueError(msg)  # noqa: TRY004 - what a user's file holds
    missing = {name for name in required if name not in properties}
    if missing:
        msg = f"required {', '.join(sorted(map(str, missing)))} without a schema in properties"
        raise ValueError(msg)
    pairs = [(f"{_literal(name)}: ?{schema_regex(each)}", name in required) for name, each in properties.items()]
    # What comes first has no comma before it: each pair up to the first required one, where there is one.
    first = next((i for i, (_, must) in enumerate(pairs) if must), len(pairs) - 1)
    ways = [pair + "".join(f", ?{p}" if must else f"(, ?{p})?" for p, must in pairs[i + 1 :])
            for i, (pair, _) in enumerate(pairs[: first + 1])]  # fmt: skip
    inside = _either(ways) if ways else ""
    return r"\{" + (inside if not pairs or pairs[first][1] else f"({inside})?") + r"\}"


def _array(schema: dict[str, Any]) -> str:
    least, most = _limits(schema, "minItems", "maxItems")
    if most == 0:
        return r"\[\]"
    if "items" not in schema:
        msg = "an array needs items"
        raise ValueError(msg)
    item = schema_regex(schema["items"])
    some = f"{item}(, ?{item}){{{max(least - 1, 0)},{'' if most is None else most - 1}}}"
    return rf"\[{some}\]" if least else rf"\[({some})?\]"


def _limits(schema: dict[str, Any], least: str, most: str) -> tuple[int, int | None]:
    low, high = schema.get(least, 0), schema.get(most)
    whole = [type(value) is int for value in (low, high) if value is not None]
    if not all(whole) or low < 0 or (high is not None and high < low):
        msg = (
            f"{least} {json.dumps(low)} and {most} {json.dumps(high)}: whole numbers in order are wanted, none below 0"
        )
        raise ValueError(msg)
    return low, high


def _either(ways: Sequence[str]) -> str:
    return ways[0] if len(ways) == 1 else f"({'|'.join(ways)})"


def _literal(value: Any) -> str:  # noqa: ANN401
    return re.escape(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _is(value: Any, kind: str) -> bool:  # noqa: ANN401
    if kind in ("integer", "number"):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (kind == "number" or value % 1 == 0)
    return isinstance(value, CLASSES[kind])


def _refuse_more(schema: dict[str, Any], taken: set[str]) -> None:
    more = set(schema) - taken - NOTES
    if more:
        msg = f"the schema's {', '.join(sorted(more))} cannot be kept to here"
        raise ValueError(msg)
