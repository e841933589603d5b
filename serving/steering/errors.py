"""Steering errors: a request's steering that is refused, and the field at fault.

SteeringError
├── InvalidSteering        a field that cannot be meant
├── VectorNotServed        a reference to a vector that is not live
├── VectorRefused          a dimension whose registered vector cannot be served
├── StrengthOutOfRange     a strength or target beyond its range
└── SteeringNotReady       the registry has not been read yet
"""

from typing import Self

from registry.errors import TrustTraceError


class SteeringError(TrustTraceError):
    """Why a request is not steered as it asks; ``param`` names the field.

    ``in_block`` continues the message: a further way out, which a `steering` block has and not every request.
    """

    def __init__(self, message: str, *, param: str | None = None, in_block: str = "") -> None:
        super().__init__(message + in_block)
        self.param, self._message = param, message

    def without_block(self, param: str | None) -> Self:
        """The same of a request that has no such block."""
        return type(self)(self._message, param=param)


class InvalidSteering(SteeringError):
    """A field that cannot be meant."""


class VectorNotServed(SteeringError):
    """A reference to a vector that is not live."""


class VectorRefused(SteeringError):
    """A dimension whose registered vector cannot be served; ``__cause__`` says why."""


class StrengthOutOfRange(SteeringError):
    """A strength or target beyond its range."""


class SteeringNotReady(SteeringError):
    """The registry has not been read yet."""
