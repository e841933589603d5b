"""A classifier of toxicity from the hub, or from a directory: any sequence classifier with a label for toxic text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from registry.errors import InvalidInput, Unavailable

TEXTS_PER_BATCH = 32
LONGEST = 256
TOXIC = re.compile(r"toxic|hate|offensive|abusive|label_1$", re.IGNORECASE)
BENIGN = re.compile(r"\b(non|not|no|neutral)[-_ ]", re.IGNORECASE)


@dataclass(frozen=True)
class SequenceClassifier:
    """A network, its tokenizer, and which of its labels means toxic."""

    network: Any
    tokenizer: Any
    toxic: int

    def probabilities(self, texts: Sequence[str]) -> Float64[np.ndarray, " n"]:
        """P(toxic) of each text; 0 for an empty one."""
        probabilities = np.zeros(len(texts))
        rows = [row for row, text in enumerate(texts) if text.strip()]
        for start in range(0, len(rows), TEXTS_PER_BATCH):
            chosen = rows[start : start + TEXTS_PER_BATCH]
            encoded = self.tokenizer(
                [texts[row] for row in chosen], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
            )
            with torch.inference_mode():
                logits = self.network(**encoded).logits.double()
            several = self.network.config.problem_type == "multi_label_classification" or logits.shape[1] == 1
            probabilities[chosen] = (logits.sigmoid() if several else logits.softmax(dim=1))[:, self.toxic].numpy()
        return probabilities


def load_sequence_classifier(name: str) -> SequenceClassifier:
    """``name`` is a hub id or a directory, such as ``tomh/toxigen_roberta``; weights in safetensors only.

    Raises ``Unavailable`` when it cannot be had, ``InvalidInput`` when its files lack some of its weights, as a
    language model lacks the head, and when none of its labels tells toxic text.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        # A file may ask for attention by a kernel that is fetched and run; the architecture's own is used.
        config._attn_implementation = None
        config._experts_implementation = None
        how = {"config": config, "use_safetensors": True, "output_loading_info": True}
        network, report = AutoModelForSequenceClassification.from_pretrained(name, trust_remote_code=False, **how)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unavailable(
            f"the classifier {name!r} could not be loaded ({reason}); go online, give a directory with safetensors, or "
            "use classifier=packaged"
        ) from error
    if drawn := sorted(report["missing_keys"]):
        raise InvalidInput(
            f"the classifier {name!r} has no weights for {drawn[0]}, which would be drawn at random: give one that was "
            "trained to classify, or use classifier=packaged"
        )
    return SequenceClassifier(network.eval().requires_grad_(False), tokenizer, toxic_label(network.config.id2label))


def toxic_label(labels: dict[int, str]) -> int:
    """The number of the label whose name says toxic. Raises ``InvalidInput`` naming the labels that there are."""
    for number, label in sorted(labels.items()):
        if TOXIC.search(label) and not BENIGN.search(label):
            return int(number)
    raise InvalidInput(
        f"none of the classifier's labels ({', '.join(labels.values())}) tells toxic text; use another one, or "
        "classifier=packaged"
    )
