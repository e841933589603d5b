"""The one check whether a vector fits a model, and what importing the steering room costs."""

import subprocess
import sys
from dataclasses import replace

import pytest

from registry.errors import InvalidInput, Mismatch
from serving.steering.bank import SteeringBank
from serving.steering.compatibility import require_fits
from tests.serving.engine.small_models import facts, served_vector

VECTOR = served_vector()


@pytest.mark.parametrize(
    ("tags", "model", "message"),
    [
        ({}, facts(model="other"), "made from ckpt.small and the model served is ckpt.other"),
        ({}, facts(d_model=64), "has d_model 32 and small has 64"),
        ({}, facts(n_layers=1), "layer 1 does not exist: small has 1 layer, 0"),
        ({}, replace(facts(), weights_digest="0" * 64), "made from weights abababababab at .* are 000000000000"),
        ({"target": "tuned"}, facts(), "made from ckpt.small for tuned and the model served is small"),
        ({"target": "small", "target_digest": "1" * 64}, facts(), "measured on weights 111111111111 of small"),
    ],
)
def test_misfits_are_refused_naming_both_values(tags, model, message):
    registered = replace(VECTOR.registered, tags={**VECTOR.registered.tags, **tags})
    with pytest.raises(Mismatch, match=message):
        require_fits(registered, model)


def test_a_copy_under_the_name_of_another_dimension_is_refused():
    copied = replace(VECTOR.registered, name="steer.small.privacy")
    with pytest.raises(Mismatch, match=r"privacy/1 is a vector of toxicity .* a version of steer\.small\.toxicity"):
        require_fits(copied, facts())


def test_a_vector_of_an_earlier_checkpoint_fits():
    earlier = {"checkpoint_revision": "step10", "weights_digest": "0" * 64}
    require_fits(replace(VECTOR.registered, tags={**VECTOR.registered.tags, **earlier}), facts())


def test_a_bank_holds_only_vectors_that_fit_and_each_once():
    with pytest.raises(Mismatch, match="has d_model 32 and small has 64"):
        SteeringBank(facts(d_model=64), (VECTOR,))
    with pytest.raises(InvalidInput, match="holds steer.small.toxicity/1 more than once"):
        SteeringBank(facts(), (VECTOR, VECTOR))
    with pytest.raises(Mismatch, match="champion of privacy is steer.small.toxicity/1, whose dimension is tox"):
        SteeringBank(facts(), (VECTOR,), {"privacy": VECTOR.reference})


def test_importing_steering_imports_no_torch():
    rooms = "bank, catalog, compatibility, limits, plan, request, resolver, shared_state"
    code = f"import sys; from serving.steering import {rooms}; print({{'torch', 'transformers'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
