"""Prefix reuse: which blocks running sequences copy from the prefix cache, wait for, and leave to it."""

from serving.engine.slots.prefix_cache import BLOCK, PrefixCache
from serving.engine.slots.slot_sequence import SlotSequence


class PrefixReuse:
    """Does nothing where the cache may hold nothing."""

    def __init__(self, prefixes: PrefixCache) -> None:
        self._prefixes = prefixes
        self._coming: set[bytes] = set()
        """The blocks that prompts seen since ``begin_step`` have yet to read."""

    def begin_step(self) -> None:
        self._coming.clear()

    def load(self, running: SlotSequence) -> None:
        """Begin a prompt with what the cache has of it, as long as no token of it was read."""
        if self._prefixes.limit and running.cached == running.reused:
            blocks = self._prefixes.load(running.slot, running.reusable, running.cached // BLOCK)
            running.cached = running.reused = BLOCK * blocks

    def waits(self, running: SlotSequence) -> bool:
        """Whether what a prompt goes on with is about to be read for one before it in this step, so that it can be
        copied next.

        The first prompt never waits, and none waits for blocks that have been read, kept or not.
        """
        if not self._prefixes.limit:
            return False
        self.load(running)
        following = running.reusable[running.cached // BLOCK :] if running.cached == running.reused else ()
        waits = bool(following) and following[0] in self._coming
        self._coming.update(running.coming)
        return waits

    def store(self, running: SlotSequence, n_read: int) -> None:
        """Leave the blocks that the last ``n_read`` tokens have completed to the cache."""
        before = (running.cached - n_read) // BLOCK
        if self._prefixes.limit and running.cached // BLOCK > before:
            self._prefixes.store(running.slot, running.completed, before)
