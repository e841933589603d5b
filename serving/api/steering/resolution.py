"""Steering resolution: a request's `steering` block made into a plan on the vectors that are live now."""

from dataclasses import replace

from registry.errors import TrustTraceError
from serving.api.errors import ServiceUnavailable
from serving.served_model import LoadedModel, ServedModel
from serving.steering.request import SteeringRequest
from serving.steering.resolution import SteeringResolution
from serving.steering.resolver import SteeringResolver


def resolve_steering(
    served: ServedModel,
    loaded: LoadedModel,
    request: SteeringRequest,
    param: str = "steering",
    *,
    is_challenged: bool = False,
) -> SteeringResolution:
    """Raises ``SteeringError``, or ``ServiceUnavailable`` where only the server's own default cannot be applied.

    A request that inherits such a default is neither answered unsteered nor blamed for a field that it did not send.
    """
    resolver = served.steering_resolver(loaded)
    try:
        return resolver.resolve_variant(request, param, is_challenged=is_challenged)
    except TrustTraceError:
        problem = inherited_problem(resolver, request)
        if problem is None:
            raise
        raise ServiceUnavailable(
            f'the server\'s default steering cannot be applied: {problem}; send `steering`: "off" to be answered '
            "unsteered",
            code="default_unavailable",
        ) from problem


def inherited_problem(resolver: SteeringResolver, request: SteeringRequest) -> TrustTraceError | None:
    """Why the part of the server's default that a request inherits cannot be applied, where it cannot."""
    if not request.inherits:
        return None
    inherited = resolver.default.without(request.dimensions.names)
    try:
        replace(resolver, default=inherited).resolve(SteeringRequest())
    except TrustTraceError as error:
        return error
    return None
