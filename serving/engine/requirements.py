"""Requirements of a request, checked by every engine before it is admitted."""

from collections.abc import Sequence

from registry.counts import counted
from registry.errors import InvalidInput, Mismatch
from serving.engine.base import PromptTooLong
from serving.steering.compatibility import ModelFacts
from serving.steering.plan import Operation, SteeringPlan


def require_operations(needed: frozenset[Operation], able: frozenset[Operation]) -> None:
    """Raise ``InvalidInput`` unless an engine that is ``able`` to do so much can do what is ``needed``."""
    lacking = sorted(needed - able)
    if lacking:
        raise InvalidInput(
            f"this engine cannot do {', '.join(lacking)}, only {', '.join(sorted(able))}; use TRUSTTRACE_ENGINE=slots"
        )


def require_bank_of(plan: SteeringPlan, model: ModelFacts) -> None:
    """Raise ``Mismatch`` unless the plan's bank, and so every vector in it, was made for this model.

    Where the weights lie, and as which step or revision they are known, is no part of a model.
    """
    bank = plan.bank.model
    made_for, here = ((facts.name, facts.weights_digest, facts.d_model, facts.n_layers) for facts in (bank, model))
    if made_for != here:
        raise Mismatch(
            f"the bank is for {bank.name} with d_model {bank.d_model} and {counted(bank.n_layers, 'layer')}, "
            f"and the model is {model.name} with {model.d_model} and {model.n_layers}"
            + ("; their weights differ" if bank.weights_digest != model.weights_digest else "")
        )


def require_tokens(tokens: Sequence[int], vocabulary: int) -> None:
    """Raise ``InvalidInput`` for no tokens, or for one that a vocabulary of this size lacks."""
    if not tokens:
        raise InvalidInput("a sequence has no tokens; give at least one")
    if not 0 <= min(tokens) <= max(tokens) < vocabulary:
        wrong = next(token for token in tokens if not 0 <= token < vocabulary)
        raise InvalidInput(f"token {wrong} does not exist: the vocabulary has {vocabulary}")


def require_room(tokens: Sequence[int], window: int, *, is_answered: bool = True) -> None:
    """Raise ``PromptTooLong`` for tokens that do not fit in the window or, to be answered, leave no room in it."""
    if len(tokens) + is_answered > window:
        raise PromptTooLong(len(tokens), window, is_answered=is_answered)
