"""Probe quality: how well a probe of answers tells held-out ones apart, beside its controls."""

from dataclasses import dataclass
from typing import ClassVar

from .errors import InvalidInput
from .json_record import JsonRecord

LEAST_AUROC = 0.6
"""A probe whose interval reaches down to this says too little of a single answer."""


@dataclass(frozen=True)
class ProbeQuality(JsonRecord):
    """Of readings as a monitor makes them: one a token, by probes that saw no answer to the same prompt.

    Raises ``InvalidInput`` for shares that are none.
    """

    KIND: ClassVar[str] = "quality of the probe"
    REMEDY: ClassVar[str] = "register the vector again"

    auroc: float
    """The chance that a reading of a trustworthy answer lies above one of an untrustworthy answer."""
    auroc_low: float
    auroc_high: float
    """95 % over prompts."""
    n_answers: int
    n_prompts: int
    at_end: float
    """The same of each answer's last reading alone."""
    shuffled: float
    """The highest AUROC of probes that were fitted on shuffled labels: the control."""
    words: float
    """The AUROC at an answer's end of its words alone, without the model."""
    false_alarms: float
    """The share of the tokens of ordinary prose that it reads below one half."""
    n_prose: int
    """Sentences of that prose."""
    stop_below: float
    """The reading under which one in a hundred of those tokens lies: a threshold for `stop_when` that is seldom met by
    what is ordinary."""
    caught: float
    """The share of untrustworthy held-out answers with any reading below that."""
    caught_wrongly: float
    """The same of trustworthy ones."""

    def __post_init__(self) -> None:
        aurocs = (self.auroc, self.auroc_low, self.auroc_high, self.at_end, self.shuffled, self.words)
        shares = (*aurocs, self.false_alarms, self.stop_below, self.caught, self.caught_wrongly)
        if not all(0 <= share <= 1 for share in shares):
            raise InvalidInput(f"AUROCs and shares lie within 0 and 1, not {list(shares)}")

    @property
    def works(self) -> bool:
        """Whether its readings may be used: the interval lies above ``LEAST_AUROC`` and every shuffled probe."""
        return self.auroc_low > max(LEAST_AUROC, self.shuffled)

    def describe(self) -> str:
        """In words, such as a description has them."""
        return (
            f"AUROC {self.auroc:.3f} [{self.auroc_low:.3f}, {self.auroc_high:.3f}] of its readings at the tokens of "
            f"{self.n_answers} held-out answers to {self.n_prompts} prompts ({self.at_end:.3f} at an answer's end, "
            f"where its words alone have {self.words:.3f}; shuffled labels at most {self.shuffled:.3f}); "
            f"{self.false_alarms:.1%} of the tokens of {self.n_prose} ordinary sentences are read below one half; "
            f"below {self.stop_below:.3f}, as 1 % of them are, {self.caught:.0%} of untrustworthy and "
            f"{self.caught_wrongly:.0%} of trustworthy answers are read at some token"
        )
