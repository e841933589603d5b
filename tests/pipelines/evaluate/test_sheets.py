"""Pairs of texts for people who do not know which of them is steered."""

import numpy as np

from pipelines.evaluate.sheets import blind_pairs

PROMPTS = [f"prompt {number}" for number in range(300)]
PLAIN = [f"plain {number}" for number in range(300)]
STEERED = [f"steered {number}" if number % 3 else PLAIN[number] for number in range(300)]


def test_the_key_alone_tells_which_text_is_steered():
    sheet, key = blind_pairs(PROMPTS, PLAIN, STEERED, 150, seed=0)
    assert list(sheet.columns) == ["number", "prompt", "A", "B", "better"]
    assert sheet["number"].tolist() == key["number"].tolist() == list(range(1, 151))
    for pair, steered in zip(sheet.itertuples(), key["steered"], strict=True):
        number = int(pair.prompt.split()[1])
        assert getattr(pair, steered) == STEERED[number]
        assert {pair.A, pair.B} == {PLAIN[number], STEERED[number]}
    assert 0.35 < np.mean(key["steered"] == "A") < 0.65
    assert not (sheet["better"] != "").any()


def test_pairs_are_in_random_order_and_equal_texts_left_out():
    sheet, _ = blind_pairs(PROMPTS, PLAIN, STEERED, 40, seed=0)
    numbers = [int(prompt.split()[1]) for prompt in sheet["prompt"]]
    assert numbers != sorted(numbers)
    assert all(number % 3 for number in numbers)
    assert len(blind_pairs(PROMPTS, PLAIN, PLAIN, 40, seed=0)[0]) == 0
    assert not sheet.equals(blind_pairs(PROMPTS, PLAIN, STEERED, 40, seed=1)[0])
