"""What steering-vectors and repeng take for the same work; run by a Python that has them, told its work on stdin."""

import json
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

warnings.simplefilter("ignore")

import torch  # noqa: E402
from repeng import ControlModel, ControlVector, DatasetEntry  # noqa: E402
from steering_vectors import train_steering_vector  # noqa: E402
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast  # noqa: E402
from transformers.utils import logging  # noqa: E402

logging.set_verbosity_error()
logging.disable_progress_bar()


def seconds(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def generate(model: Any, tokenizer: Any, prompts: list[str], tokens: int) -> None:
    batch = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    with torch.inference_mode():
        model.generate(
            **batch, do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=tokenizer.pad_token_id
        )


def measure(work: dict[str, Any]) -> dict[str, dict[str, Any]]:
    dtype, layer = getattr(torch, work["dtype"]), work["layer"]
    model = AutoModelForCausalLM.from_pretrained(work["model"], dtype=dtype).eval()
    # Its class is named in a way that transformers 4 does not know.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work["model"], padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    pairs, prompts, tokens = work["pairs"], work["prompts"], work["tokens"]
    strengths = [0.1 * (number + 1) for number in range(len(prompts))]

    made: dict[str, Any] = {}

    def their_vectors() -> None:
        made["steering-vectors"] = train_steering_vector(
            model, tokenizer, [tuple(pair) for pair in pairs], batch_size=32
        )

    found = {"steering-vectors": {"extract": seconds(their_vectors, 2)}}
    vector = made["steering-vectors"]
    vector.layer_activations = {layer: vector.layer_activations[layer]}

    def one_by_one() -> None:
        for prompt, strength in zip(prompts, strengths, strict=True):
            with vector.apply(model, multiplier=strength):
                generate(model, tokenizer, [prompt], tokens)

    def in_a_batch() -> None:
        with vector.apply(model, multiplier=strengths[0]):
            generate(model, tokenizer, prompts, tokens)

    found["steering-vectors"] |= {"mixed": seconds(one_by_one, 2), "alike": seconds(in_a_batch, 2)}

    entries = [DatasetEntry(positive, negative) for positive, negative in pairs]

    def their_control() -> None:
        made["repeng"] = ControlVector.train(model, tokenizer, entries)

    found["repeng"] = {"extract": seconds(their_control, 2)}
    controlled = ControlModel(model, [layer])

    def controlled_one_by_one() -> None:
        for prompt, strength in zip(prompts, strengths, strict=True):
            controlled.set_control(made["repeng"], strength)
            generate(controlled, tokenizer, [prompt], tokens)

    def controlled_in_a_batch() -> None:
        controlled.set_control(made["repeng"], strengths[0])
        generate(controlled, tokenizer, prompts, tokens)

    found["repeng"] |= {"mixed": seconds(controlled_one_by_one, 2), "alike": seconds(controlled_in_a_batch, 2)}
    return {name: {**times, "version": version(name)} for name, times in found.items()}


if __name__ == "__main__":
    json.dump(measure(json.load(sys.stdin)), sys.stdout)
