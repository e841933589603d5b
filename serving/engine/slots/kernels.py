"""Kernels: by which of several ways the steps of an engine are computed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kernels:
    """The plain ones, unless said otherwise.

    Where a machine or a model has not got one, the plain one stands in, but for ``batch_invariant``, which is refused.
    """

    cuda_graphs: bool = False
    """Decode steps are recorded on CUDA and replayed, which spares the CPU most of its work."""
    four_bit: bool = False
    """In bfloat16 on a CPU, steps of few tokens multiply weights of quantised files in four bits."""
    batch_invariant: bool = False
    """In bfloat16 on a CPU, every request gets the bits that it gets alone; never in four bits then."""


PLAIN = Kernels()
