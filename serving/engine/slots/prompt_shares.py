"""Prompt shares: how much of each client's prompts a step reads, so that no long prompt holds up a short one."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from serving.engine.slots.slot_sequence import SlotSequence
from serving.engine.slots.token_batch import Span


def unread_by_client(sequences: Iterable[SlotSequence]) -> Counter[str]:
    """Tokens of prompts that are yet to be read."""
    unread: Counter[str] = Counter()
    for sequence in sequences:
        unread[sequence.request.client] += sequence.unread
    return unread


def next_pieces(prompts: Sequence[SlotSequence], budget: int) -> list[tuple[SlotSequence, Span]]:
    """What a step reads of prompts, at most ``budget`` tokens: of each client's share its first prompts first."""
    left = prompt_shares(unread_by_client(prompts), budget)
    pieces = []
    for prompt in prompts:
        if left[prompt.request.client]:
            span = prompt.span(left[prompt.request.client])
            left[prompt.request.client] -= span.count
            pieces.append((prompt, span))
    return pieces


def prompt_shares(unread: Mapping[str, int], budget: int) -> dict[str, int]:
    """Of ``budget`` tokens, as many for each client as it has unread or, where these are too many, an equal share of
    what those with less leave.
    """
    shares: dict[str, int] = {}
    for place, (client, tokens) in enumerate(sorted(unread.items(), key=lambda item: item[1])):
        shares[client] = min(tokens, -(-budget // (len(unread) - place)))
        budget -= shares[client]
    return shares
