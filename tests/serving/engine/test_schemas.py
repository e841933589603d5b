"""Schemas that no text which ends can fit, named by the part at fault."""

import math

import pytest

from serving.engine import schemas as module
from serving.engine.base import Sampling
from serving.engine.calls import CallFrame, Calls
from serving.engine.grammar import GrammarCompiler, SchemaRefused
from serving.engine.schemas import MOST_LEVELS, MOST_PARTS, endless_part, levels
from tests.forked import run_forked
from tests.mutants import mutant
from tests.serving.model.tokenizers_of_each_kind import byte_level

SELF = {"$ref": "#"}
NULL = {"type": "null"}


def holding(part, required=True):
    return {"type": "object", "properties": {"a": part}, "required": ["a"] if required else []}


def defined(**definitions):
    return {"$defs": definitions, "$ref": "#/$defs/a"}


ENDLESS = [
    (SELF, "#"),
    (holding(SELF), "#/properties/a"),
    (holding(holding(SELF)), "#/properties/a/properties/a"),
    (holding({"anyOf": [SELF, SELF]}), "#/properties/a/anyOf/0"),
    (holding({"$ref": "#/anyOf/1"}) | {"anyOf": [NULL, SELF]}, "#/anyOf/1"),
    (holding({"allOf": [NULL, SELF]}), "#/properties/a/allOf/1"),
    (holding({"type": "array", "items": SELF, "minItems": 1}), "#/properties/a/items"),
    (holding({"type": "array", "prefixItems": [NULL, SELF], "minItems": 2}), "#/properties/a/prefixItems/1"),
    ({"type": ["object", "array"], **holding(SELF), "items": SELF, "minItems": 1}, "#/properties/a"),
    (defined(a=holding({"$ref": "#/$defs/b"}), b=holding({"$ref": "#/$defs/a"})), "#/$defs/b/properties/a"),
    ({"type": "object", "required": ["x"], "additionalProperties": SELF}, "#/additionalProperties"),
    ({"type": "object", "minProperties": 1, "additionalProperties": SELF}, "#/additionalProperties"),
    (
        {"type": "object", "minProperties": 2, "properties": {"b": NULL, "c": SELF}, "additionalProperties": False},
        "#/properties/c",
    ),
    (holding({"$ref": "#/$defs/a~1b%20c"}) | {"$defs": {"a/b c": holding(SELF)}}, "#/$defs/a~1b%20c/properties/a"),
]
ENDING = [
    holding(SELF, required=False),
    holding({"anyOf": [SELF, NULL]}),
    holding({"oneOf": [NULL, SELF]}),
    holding({"type": "array", "items": SELF}),
    holding({"type": "array", "items": SELF, "minItems": 0}),
    holding({"type": "array", "prefixItems": [NULL, SELF], "minItems": 1}),
    holding(SELF) | {"type": ["object", "null"]},
    holding(SELF) | {"enum": [1]},
    {"properties": {"a": SELF}, "required": ["a"]},
    defined(a=holding({"$ref": "#/$defs/b"}), b=holding({"$ref": "#/$defs/a"}, required=False)),
    defined(a=holding({"$ref": "https://example.org/elsewhere"})),
    {"type": "object", "minProperties": 1, "properties": {"b": NULL}, "additionalProperties": False},
    {"type": "object", "minProperties": 1, "properties": {"b": NULL}, "additionalProperties": SELF},
    {"type": "object", "required": ["x"], "patternProperties": {"^x$": NULL}, "additionalProperties": SELF},
    {"type": "array", "minItems": math.inf, "prefixItems": [NULL]},
    {"$ref": "#/anyOf/²", "anyOf": [NULL, {"$ref": f"#/anyOf/{'9' * 5000}"}]},
    {"type": [], "properties": 3, "required": "a", "allOf": {}, "minItems": "2"},
    {},
    True,
]


@pytest.mark.parametrize(("schema", "place"), ENDLESS)
def test_a_part_that_needs_itself_is_named(schema, place):
    assert endless_part(schema) == place


@pytest.mark.parametrize("schema", ENDING)
def test_what_can_end_is_let_through(schema):
    assert endless_part(schema) is None


def test_a_large_schema_is_looked_at_once_and_briefly():
    chain = {f"d{number}": holding({"$ref": f"#/$defs/d{number + 1}"}) for number in range(5000)}
    assert endless_part({"$defs": chain | {"d5000": NULL}, "$ref": "#/$defs/d0"}) is None
    assert endless_part({"$defs": chain | {"d5000": SELF}, "$ref": "#/$defs/d0"}) is not None
    assert endless_part(holding({"anyOf": [SELF, *([SELF] * MOST_PARTS)]})) is not None
    assert endless_part({"allOf": [*({"type": "null"} for _ in range(MOST_PARTS)), holding(SELF)]}) is None


def chain(link, count, base="#"):
    """Definitions that lead into each other."""
    definitions = {f"d{number}": link({"$ref": f"{base}/$defs/d{number + 1}"}) for number in range(count)}
    return {"$id": "https://example.org/a", "$defs": {**definitions, f"d{count}": NULL}, "$ref": f"{base}/$defs/d0"}


LINKS = {
    "required": holding,
    "optional": lambda part: holding(part, required=False),
    "prefix": lambda part: {"type": "array", "prefixItems": [part], "minItems": 1, "items": False},
    "alone": lambda part: part,
    "any": lambda part: {"anyOf": [NULL, part]},
    "all": lambda part: {"allOf": [part]},
}


@pytest.mark.parametrize("base", ["#", "https://example.org/a#"])
@pytest.mark.parametrize("link", LINKS)
def test_definitions_too_deep_in_each_other_are_refused(link, base):
    """They would overflow the stack of their thread, which ends the process: here one of its own."""

    def compile_all():
        compiler = GrammarCompiler(byte_level(), 300, [0])
        for schema in (chain(LINKS[link], 4000, base), holding(chain(LINKS[link], 4000, base))):
            with pytest.raises(SchemaRefused, match=rf"levels into each other, and may {MOST_LEVELS}; send a flatter"):
                compiler.compile(Sampling(8, schema=schema))
            with pytest.raises(SchemaRefused, match="levels into each other"):
                compiler.compile(Sampling(8, calls=Calls((CallFrame("a", "<", schema, ">"),))))

    ended = run_forked(compile_all)
    assert ended.returncode == 0, ended.output


@pytest.mark.parametrize("link", LINKS)
def test_what_is_just_flat_enough_is_compiled(link):
    of_two, of_one = levels(chain(LINKS[link], 2)), levels(chain(LINKS[link], 1))
    count = 1 + (MOST_LEVELS - of_one) // (of_two - of_one)
    assert levels(chain(LINKS[link], count)) <= MOST_LEVELS < levels(chain(LINKS[link], count + 1))

    def compile_it():
        GrammarCompiler(byte_level(), 300, [0]).compile(Sampling(8, schema=chain(LINKS[link], count)))

    ended = run_forked(compile_it)
    assert ended.returncode == 0, ended.output


def test_levels_are_those_of_the_schema_and_its_definitions():
    assert [levels(schema) for schema in (True, {}, holding(NULL))] == [1, 1, 3]
    assert levels(defined(a=NULL)) == 3 + 1
    assert levels(defined(a=holding({"$ref": "#/$defs/a"}))) == 5 + 3
    assert levels({"$ref": "#elsewhere"}) == 2
    wide = {"type": "object", "properties": {f"p{number}": {"$ref": "#/$defs/a"} for number in range(5000)}}
    assert levels({**wide, "$defs": {"a": holding(NULL)}}) == 5 + 3


@pytest.mark.parametrize("schema", [schema for schema, _ in ENDLESS[1:]])
def test_a_schema_without_an_end_is_refused_by_name(schema):
    compiler = GrammarCompiler(byte_level(), 300, [0])
    with pytest.raises(SchemaRefused, match="no text fits it, as `#/.*` needs itself without end"):
        compiler.compile(Sampling(8, schema=schema))
    calls = Calls((CallFrame("a", "<", NULL, ">"), CallFrame("b", "<", schema, ">")))
    with pytest.raises(SchemaRefused, match="needs itself without end"):
        compiler.compile(Sampling(8, calls=calls))


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("self._missing[node] -= 1", "self._missing[node] -= 2"),
        ("first[:fewest]", "first"),
        ("needed.append(self._some(parts, 1))", "needed += parts"),
        ('"patternProperties" in schema', "False"),
        ("others is False or", ""),
    ],
)
def test_another_rule_is_told_apart(passage, replacement):
    cases = [*ENDLESS, *((schema, None) for schema in ENDING)]
    with mutant(module, passage, replacement) as changed:
        assert any((changed.endless_part(schema) is None) != (place is None) for schema, place in cases)
