"""Preferences between answers, and the divergence that steering causes, both with gradients by what is added."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from pipelines.model_io.batches import padded, tokenise
from pipelines.model_io.prefix_trees import shared_tokens
from serving.model.language_model import LanguageModel
from serving.model.residual_stream import steering


@dataclass(frozen=True, eq=False)
class TokenisedAnswers:
    """Answers as tokens, after their prompts."""

    sequences: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]
    """Where in its sequence each answer begins."""

    @classmethod
    def of(cls, model: LanguageModel, prompts: Sequence[str], texts: Sequence[str]) -> "TokenisedAnswers":
        sequences = tokenise(model, [f"{prompt}{text}" for prompt, text in zip(prompts, texts, strict=True)])
        starts = (shared_tokens(*both) for both in zip(tokenise(model, prompts), sequences, strict=True))
        return cls(tuple(map(tuple, sequences)), tuple(starts))

    def take(self, rows: Sequence[int]) -> "TokenisedAnswers":
        return TokenisedAnswers(tuple(self.sequences[row] for row in rows), tuple(self.starts[row] for row in rows))


def log_odds(
    model: LanguageModel, good: TokenisedAnswers, bad: TokenisedAnswers, offsets: Mapping[int, Tensor]
) -> Float[Tensor, " n"]:
    """Of each pair, in nats, how much likelier the good answer is than the bad one."""
    both = TokenisedAnswers(good.sequences + bad.sequences, good.starts + bad.starts)
    likely = answer_log_probabilities(model, both, offsets)
    return likely[: len(good.starts)] - likely[len(good.starts) :]


def answer_log_probabilities(
    model: LanguageModel, answers: TokenisedAnswers, offsets: Mapping[int, Tensor]
) -> Float[Tensor, " n"]:
    """Of each answer after its prompt, in nats, with ``offsets[layer]`` added at every token of both."""
    tokens, lengths = padded(answers.sequences, model.device)
    places = torch.arange(1, tokens.shape[1])
    answered = (places >= torch.tensor(answers.starts)[:, None]) & (places < lengths[:, None])
    with steering(model.network, offsets):
        logits = model.network(input_ids=tokens, use_cache=False).logits[:, :-1]
    likely = log_softmax(logits.float(), dim=-1).gather(-1, tokens[:, 1:, None])[..., 0]
    return (likely * answered.to(likely.device)).sum(dim=1)


def prose_divergence(
    model: LanguageModel, sentences: Sequence[Sequence[int]], offsets: Mapping[int, Tensor]
) -> Float[Tensor, ""]:
    """KL(unsteered || steered) of the next token, in nats, averaged over the tokens of ``sentences``."""
    tokens, lengths = padded(sentences, model.device)
    within = (torch.arange(tokens.shape[1]) < lengths[:, None]).to(tokens.device)
    with torch.no_grad():
        plain = log_softmax(model.network(input_ids=tokens, use_cache=False).logits[within].float(), dim=-1)
    with steering(model.network, offsets):
        steered = log_softmax(model.network(input_ids=tokens, use_cache=False).logits[within].float(), dim=-1)
    return kl_div(steered, plain, reduction="batchmean", log_target=True)
