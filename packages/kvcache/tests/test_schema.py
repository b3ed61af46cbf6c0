"""JSON schemas as regular expressions: all that may be written is valid, and all that is valid may be written."""

import json
import re
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcache.sampling import DEAD, TokenTable, _regex
from kvcache.sampling._regex import automaton
from kvcache.sampling._schema import schema_regex
from kvcache.sampling.solution import constrain, token_table

# Every byte, so that any text can be spelled, and pieces that end in the middle of a key, a number or a character.
TOKENS = [b"", *(bytes([byte]) for byte in range(256)), b'{"', b'": ', b'", "', b"true", b"12", b".5", b"e+", b"\\u00"]
TOKENS += ["éa".encode(), "日".encode(), b"[[", b"]}", b"null, ", b'"name": "']
EOS = 0

LEAVES: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "string", "minLength": 1, "maxLength": 3},
    {"type": "integer"},
    {"type": "number", "title": "a number"},
    {"type": "boolean"},
    {"type": ["null", "integer"]},
    {"type": ["string", "null"], "maxLength": 2},
    {"enum": ["a", 1, None, 'q"\\', "é"]},
    {"type": "string", "enum": ["red", 3, "green"]},
    {"const": {"k": [1, "x"], "m": {}}},
]
NAMES = ["name", "a b", 'q"', "é", "x\\"]


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def build(pairs: dict[str, tuple[Any, bool]]) -> dict[str, Any]:
        required = [name for name, (_, must) in pairs.items() if must]
        properties = {name: each for name, (each, _) in pairs.items()}
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    return st.dictionaries(st.sampled_from(NAMES), st.tuples(inner, st.booleans()), max_size=3).map(build)


def arrays(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    limits = st.tuples(st.integers(0, 2), st.none() | st.integers(0, 2))

    def build(given_: tuple[Any, tuple[int, int | None]]) -> dict[str, Any]:
        items, (least, more) = given_
        return {"type": "array", "items": items, "minItems": least} | (
            {} if more is None else {"maxItems": least + more}
        )

    return st.tuples(inner, limits).map(build)


SCHEMAS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        objects(inner), arrays(inner), st.lists(inner, min_size=1, max_size=2).map(lambda each: {"anyOf": each})
    ),
    max_leaves=4,
)


def documents(schema: Any) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - one for each kind
    """Return what draws valid documents, their keys in the order of the schema."""
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        valid = [value for value in schema["enum"] if jsonschema.Draft202012Validator(schema).is_valid(value)]
        return st.sampled_from(valid)
    if "anyOf" in schema:
        return st.one_of(*(documents(each) for each in schema["anyOf"]))
    if isinstance(schema["type"], list):
        return st.one_of(*(documents({**schema, "type": kind}) for kind in schema["type"]))
    if schema["type"] == "object":
        required = schema["required"]
        fixed = {name: documents(each) for name, each in schema["properties"].items() if name in required}
        free = {name: documents(each) for name, each in schema["properties"].items() if name not in required}
        drawn = st.fixed_dictionaries(fixed, optional=free)
        return drawn.map(lambda found: {name: found[name] for name in schema["properties"] if name in found})
    if schema["type"] == "array":
        most = schema.get("maxItems", schema["minItems"] + 3)
        return st.lists(documents(schema["items"]), min_size=schema["minItems"], max_size=most)
    simple: dict[str, st.SearchStrategy[Any]] = {
        "integer": st.integers(),
        "number": st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    least, most = schema.get("minLength", 0), schema.get("maxLength", 6)
    return simple.get(schema["type"], st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=most))


def table_of(schema: Any) -> TokenTable:
    return token_table(automaton(schema_regex(schema)), TOKENS, EOS)


def spell(text: bytes, longest: bool) -> list[int]:
    """Cut a text into tokens: always the longest that fits, or byte by byte."""
    found, at = list[int](), 0
    while at < len(text):
        fitting = [i for i, token in enumerate(TOKENS) if token and text.startswith(token, at)]
        found.append(max(fitting, key=lambda i: len(TOKENS[i])) if longest else 1 + text[at])
        at += len(TOKENS[found[-1]])
    return found


@settings(max_examples=25)
@given(schema=SCHEMAS, data=st.data())
def test_every_valid_document_is_accepted_token_by_token(schema: Any, data: st.DataObject) -> None:
    table, document = table_of(schema), data.draw(documents(schema))
    jsonschema.Draft202012Validator(schema).validate(document)
    # What is fixed, the names of properties and the values of enum and const, has one spelling.
    layouts = [(", ", ": ")] if "const" in json.dumps(schema) else [(", ", ": "), (",", ":")]
    text = json.dumps(document, ensure_ascii=False, separators=data.draw(st.sampled_from(layouts)))
    for longest in (False, True):
        state = 0
        for token in [*spell(text.encode(), longest), EOS]:
            after = int(table.after[state, token])
            assert after != DEAD, f"{json.dumps(schema)}: {TOKENS[token]!r} of {text} is refused"
            state = after
        assert state == len(table.after) - 1


@settings(max_examples=25)
@given(schema=SCHEMAS, seed=st.integers(0, 999), spare=st.integers(0, 30))
def test_every_drawn_document_is_valid(schema: Any, seed: int, spare: int) -> None:
    table, generator = table_of(schema), torch.Generator().manual_seed(seed)
    budget, state, text = int(table.needed[0]) + spare, 0, b""
    for step in range(budget):
        masked = constrain(
            torch.randn(1, len(TOKENS), generator=generator) * 3, table, torch.tensor([state]), budget - step
        )
        token = int(masked.argmax())
        state, text = int(table.after[state, token]), text + TOKENS[token]
        if token == EOS:
            break
    else:
        pytest.fail(f"{json.dumps(schema)}: {text!r} did not end within {budget} tokens")
    jsonschema.Draft202012Validator(schema).validate(json.loads(text))


def accepts(schema: Any, text: str) -> bool:
    return re.fullmatch(schema_regex(schema), text) is not None


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string"}, ['""', r'"\n\u00e9\ud83d\ude00"', '"é\x7f"'], ['"\n"', r'"\x"', r'"\u12"', "''"]),
        ({"type": "string"}, [], [r'"\ud83d"', r'"\ude00"', r'"\ude00\ud83d"', r'"\ud83d\u0041"']),
        ({"type": "string", "minLength": 2}, [r'"\ud83d\ude00a"'], [r'"\ud83d\ude00"', '"a"']),
        ({"type": "string", "maxLength": 1}, [r'"\ud83d\ude00"', '""'], ['"ab"']),
        ({"type": "integer"}, ["0", "-10", "7"], ["01", "+1", "1.0", "-", "1e3"]),
        ({"type": "number"}, ["0.10", "-1e+16", "1E-7"], [".5", "1.", "1e", "NaN", "Infinity"]),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 0}, ["[]"], ["[null]", "[ ]"]),
        ({"type": "array", "maxItems": 0}, ["[]"], ["[1]"]),
        (
            {"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 3},
            ["[null, null]", "[null,null,null]"],
            ["[]", "[null]", "[null, null, null, null]", "[null, null,]"],
        ),
        ({"type": "object"}, ["{}"], ['{"a": 1}']),
        ({"type": "integer", "enum": [1, "1", True, 2.0]}, ["1", "2.0"], ["true", '"1"']),
        ({"enum": [".", "a|b"]}, ['"."', '"a|b"'], ['"x"', '"a"']),
    ],
)
def test_edges(schema: Any, good: list[str], bad: list[str]) -> None:
    for text in good:
        assert accepts(schema, text), f"{schema} refuses {text}"
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    for text in bad:
        assert not accepts(schema, text), f"{schema} accepts {text}"


@pytest.mark.parametrize("required", [[], ["a"], ["b"], ["c"], ["a", "c"], ["a", "b", "c"]])
def test_what_is_not_required_may_be_left_out(required: list[str]) -> None:
    properties = {name: {"type": "null"} for name in "abc"}
    schema = {"type": "object", "properties": properties, "required": required}
    for some in range(8):
        names = [name for i, name in enumerate("abc") if some >> i & 1]
        text = json.dumps(dict.fromkeys(names))
        assert accepts(schema, text) == set(required).issubset(names), f"required {required}: {text}"
    for text in ('{, "c": null}', '{"a": null, }', '{"a": null "b": null}', '{"b": null, "a": null}'):
        assert not accepts(schema, text), text


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (None, "a schema is an object, not null"),
        ({}, "a schema needs a type"),
        ({"type": "text"}, 'not "text"'),
        ({"type": []}, r"not \[\]"),
        ({"type": 3}, "not 3"),
        ({"type": "integer", "minimum": 3}, "minimum cannot be kept"),
        ({"type": "string", "pattern": "a", "format": "date"}, "format, pattern cannot be kept"),
        ({"type": "string", "anyOf": [{"type": "integer"}]}, "type cannot be kept"),
        ({"$ref": "#"}, "a schema needs a type"),
        ({"enum": []}, "enum is .*something in it"),
        ({"enum": "ab"}, 'enum is "ab"'),
        ({"type": "null", "enum": ["a"]}, "nothing of type null"),
        ({"anyOf": {}}, "anyOf is {}"),
        ({"anyOf": [{"type": "null"}, 3]}, "a schema is an object, not 3"),
        ({"enum": [float("nan")]}, "JSON"),
        ({"type": "object", "properties": []}, "properties are an object"),
        ({"type": "object", "required": ["a"]}, "required a without"),
        ({"type": "array"}, "an array needs items"),
        ({"type": "array", "items": True}, "not true"),
        ({"type": "array", "items": {"type": "null"}, "minItems": -1}, "minItems -1"),
        ({"type": "array", "items": {"type": "null"}, "minItems": 3, "maxItems": 2}, "minItems 3 and maxItems 2"),
        ({"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": 0}, "minItems 1 and maxItems 0"),
        ({"type": "array", "items": {"type": "null"}, "maxItems": True}, "maxItems true"),
        ({"type": "string", "minLength": "2"}, 'minLength "2"'),
        ({"type": "string", "minLength": 1.5}, "minLength 1.5"),
    ],
)
def test_what_cannot_be_kept_to_is_refused(schema: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        schema_regex(schema)


def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_regex, "MOST", 2000)  # the tool's test waits for all states
    for schema in ({"type": "string", "minLength": 10**6}, {"type": "string", "maxLength": 10**11}):
        with pytest.raises(ValueError, match=r"needs more than|too large"):
            automaton(schema_regex(schema))
    for pattern in ("(" * 5000 + "a" + ")" * 5000, "(" * 300 + "a" + ")*" * 300):
        with pytest.raises(ValueError, match="is nested too deeply"):
            automaton(pattern)
    with pytest.raises(ValueError, match=r"^.{0,200}$"):
        automaton("a" * 5000 + "(")
