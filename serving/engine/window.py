"""Window of a model: how many tokens a sequence may have, and the tokens that end a text."""

from serving.model.language_model import LanguageModel

DEFAULT_WINDOW = 2048
STRETCHED_ROPES = frozenset({"dynamic", "longrope"})
"""Position encodings that change with the longest sequence in a batch, beyond the length trained on."""


def window_of(model: LanguageModel, largest: int | None) -> int:
    """Tokens that a sequence may have: what the model was made for, at most ``largest``."""
    limits = [model.context_length or DEFAULT_WINDOW, *([] if largest is None else [largest])]
    declared = getattr(model.network.config, "rope_parameters", None) or {}
    for rope in (declared, *(part for part in declared.values() if isinstance(part, dict))):
        if rope.get("rope_type") in STRETCHED_ROPES:
            limits.append(int(rope.get("original_max_position_embeddings", limits[0])))
    return min(limits)


def end_tokens(model: LanguageModel) -> frozenset[int]:
    """The tokens that end a text: those that the model declares, and the tokenizer's own."""
    declared = getattr(getattr(model.network, "generation_config", None), "eos_token_id", None)
    own = getattr(model.tokenizer, "eos_token_id", None)
    return frozenset(
        token
        for tokens in (declared, own)
        if tokens is not None
        for token in ([tokens] if isinstance(tokens, int) else tokens)
    )
