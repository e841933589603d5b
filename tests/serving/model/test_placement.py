import pytest
import torch

from registry.errors import InvalidInput
from serving.model.placement import Placement, computes_in_bfloat16


def test_auto_becomes_what_this_machine_has():
    resolved = Placement().resolved()
    assert resolved.device == ("cuda" if torch.cuda.is_available() else "cpu")
    expected = "bfloat16" if computes_in_bfloat16(torch.device(resolved.device)) else "float32"
    assert resolved.precision == expected
    assert resolved.resolved() == resolved


def test_precision_and_kind_of_device_are_the_identity():
    first, second = Placement("float32", "cuda:0"), Placement("float32", "cuda:1", "balanced")
    assert first.identity() == second.identity()
    assert first.identity() != Placement("bfloat16", "cuda:0").identity()
    assert first.identity() != Placement("float32", "cpu").identity()
    with pytest.raises(InvalidInput, match="resolve it first"):
        Placement().identity()


def test_wrong_placements_are_refused():
    with pytest.raises(InvalidInput, match="unknown precision 'int8'; known: auto, float32, bfloat16"):
        Placement("int8")
    with pytest.raises(InvalidInput, match="`device` is 'tpu9'; give auto, cpu, cuda, or one of several"):
        Placement(device="tpu9").resolved()
