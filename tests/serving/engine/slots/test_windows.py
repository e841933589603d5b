"""Conditions that read the latest tokens of an answer, against the plain model on the whole sequence."""

import numpy as np
import pytest
import torch

from serving.engine.slots import slot_sequence
from serving.engine.slots.engine import SlotEngine
from serving.model import interventions
from serving.model.residual_stream import rewriting
from serving.steering.bank import SteeringBank
from tests.mutants import mutant
from tests.probe_qualities import GOOD, POOR
from tests.serving.engine.small_models import add, facts, plan, prompts, request, served_vector, small_llama

BANK = SteeringBank(
    facts(),
    (
        served_vector("toxicity", 1, seed=1, probe=1, window=4, quality=GOOD),
        served_vector("privacy", (0, 1, 2), seed=2, scale=2.0, probe=0, window=3, quality=GOOD),
        served_vector("fairness", 1, seed=3, probe=1),
    ),
)
SETTINGS = [
    (add(BANK, 0, 4.0, below=0.5),),
    (add(BANK, 1, 3.0, below=0.6),),
    (add(BANK, 2, 4.0, below=0.5),),
    (add(BANK, 0, -4.0, below=0.6), add(BANK, 1, 2.0, below=0.5)),
    (),
]


def expected(model, asked, moves):
    """Greedy tokens, and for each vector how many of the prompt and of the answer it moved."""
    tokens, length = list(asked.prompt_tokens), len(asked.prompt_tokens)
    for _ in range(asked.sampling.max_tokens):
        fires = {}

        def rewrite(layer, states, fires=fires):
            answer = states[0, length - 1 :].numpy().copy()
            for given in moves:
                probe, vector = given.vector.probe, given.vector
                if probe.layer == layer:
                    logits = probe.logits(answer)
                    # A probe of answers reads nothing of the prompt, not even its last token.
                    read = probe.readings(logits[1:]) if probe.reads_answers else probe.readings(logits)[1:]
                    first = not probe.reads_answers and probe.readings(logits)[0] < given.condition.probe_below
                    fires[vector.reference] = np.r_[first, read < given.condition.probe_below]
            for given in moves:
                if layer in given.vector.layers:
                    offset = given.vector.vector.at(layer).offset(given.strength)
                    answer = answer + fires[given.vector.reference][:, None] * offset
            return torch.cat([states[:, : length - 1], torch.from_numpy(answer.astype(np.float32))[None]], dim=1)

        with torch.inference_mode(), rewriting(model.network, range(3), rewrite):
            tokens.append(int(model.network(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tuple(tokens[length:]), {name: (int(fired[0]), int(fired[1:].sum())) for name, fired in fires.items()}


def agree(model):
    asked = [request(prompt, SETTINGS[place % 5], BANK, max_tokens=14) for place, prompt in enumerate(prompts(15, 6))]
    with SlotEngine(model, slots=4, prefill_chunk=16) as engine:
        answers = [generation.result(60) for generation in [engine.submit(wanted) for wanted in asked]]
    moved = 0
    for place, (wanted, answer) in enumerate(zip(asked, answers, strict=True)):
        tokens, counts = expected(model, wanted, SETTINGS[place % 5])
        assert answer.tokens == tokens
        assert {name: count for name, count in answer.outcome.moved.items() if name in counts} == counts
        moved += sum(0 < answered < 13 for _, answered in counts.values())
    assert moved >= 6  # conditions that hold of some tokens and not of others


def test_a_condition_reads_the_mean_over_its_window():
    agree(small_llama())


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        (
            'if phase == "generation":\n                for row in rows',
            "if True:\n                for row in rows",
        ),
        ("window - 1)", "window)"),
        ("vectors.remembered", "sorted(vectors.windows)"),
    ],
)
def test_other_windows_steer_otherwise(monkeypatch, passage, replacement):
    with mutant(slot_sequence, passage, replacement) as changed:
        for name in ("keep_logits", "SlotSequence", "layer_interventions"):
            monkeypatch.setattr(f"serving.engine.slots.scheduler.{name}", getattr(changed, name))
        with pytest.raises(AssertionError):
            agree(small_llama())


def test_a_probe_of_answers_fires_in_no_prompt():
    with mutant(interventions, 'phase == "generation" or not', "True or not") as changed:
        given = add(BANK, 0, 4.0, below=0.9)
        of_layer = interventions.LayerVectors.from_bank(BANK, 1, torch.device("cpu"))
        below = {
            of: of.token_parameters(plan(BANK, (given,)), of_layer, "last_prompt")[4, 0]
            for of in (interventions, changed)
        }
    assert below[interventions] == -np.inf and below[changed] == pytest.approx(np.log(9))
    assert interventions.token_parameters(plan(BANK, (given,)), of_layer, "generation")[4, 0] == pytest.approx(
        np.log(9)
    )


def test_a_probe_that_is_not_used_is_not_asked():
    bank = SteeringBank(facts(), (served_vector("toxicity", 1, probe=1, window=4, quality=POOR),))
    vectors = interventions.LayerVectors.from_bank(bank, 1, torch.device("cpu"))
    assert not vectors.probes and not vectors.windows
