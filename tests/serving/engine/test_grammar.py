"""Schemas that cannot be followed are refused, whatever reading them raises."""

import pytest

from serving.engine.base import Sampling
from serving.engine.calls import CallFrame, Calls
from serving.engine.grammar import GrammarCompiler, SchemaRefused


def nested(depth):
    schema = {}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize("depth", [200, 100_000])
def test_a_schema_nested_too_deep_is_refused(depth):
    with pytest.raises(SchemaRefused, match="cannot be followed: .*recursion"):
        GrammarCompiler(None, 10, [0]).compile(Sampling(8, schema=nested(depth)))


def test_arguments_nested_too_deep_are_refused():
    calls = Calls((CallFrame("a", "<", nested(100_000), ">"),))
    with pytest.raises(SchemaRefused, match="cannot be followed: .*recursion"):
        GrammarCompiler(None, 10, [0]).compile(Sampling(8, calls=calls))
