"""Dependencies of routes: the served model, the request's record, and what a route that runs the model needs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Annotated, TypeVar, TypeVarTuple, Unpack

from fastapi import Depends, Header, Request

from serving.api.errors import ApiError
from serving.api.fair_share import FairShare
from serving.api.request_body import LONGEST_NAME
from serving.api.request_record import KEY, RequestRecord
from serving.api.steering.shorthand import HEADER
from serving.served_model import LoadedModel, ServedModel

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class RequestContext:
    """What a route that runs the model needs beside its body."""

    served: ServedModel
    shares: FairShare
    record: RequestRecord
    request: Request | None = None
    """By which it is seen that the client has left; ``None`` where it cannot."""
    x_steering: str | None = None
    """The header that steers clients which can send no field of their own."""

    def require_no_header(self, refusal: str) -> None:
        """Raise ``ApiError`` for a header that asks for steering where it would not be heard."""
        if self.x_steering is not None:
            raise ApiError(f"the header {HEADER} {refusal}", param=HEADER, code="invalid_steering")

    async def run(self, function: Callable[[Unpack[Arguments]], Result], *arguments: *Arguments) -> Result:
        """``function`` on one of the client's threads."""
        return await self.shares.run(self.record.client, function, *arguments)


async def _served(request: Request) -> ServedModel:
    served: ServedModel = request.app.state.served
    return served


async def require_known_query(request: Request) -> None:
    """Raise ``ApiError`` for a parameter of the address that the route lacks, or that stands twice."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in known:
            near = get_close_matches(name[:LONGEST_NAME], known, n=1)
            told = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known) or 'none'}"
            raise ApiError(f"there is no parameter `{name}`; {told}", param=name)
        if given.count(name) > 1:
            raise ApiError(f"the parameter `{name}` stands twice: send it once", param=name)


def _loaded(request: Request) -> LoadedModel:
    served: ServedModel = request.app.state.served
    return served.require_loaded()


async def _record(request: Request) -> RequestRecord:
    record: RequestRecord | None = request.scope.get(KEY)
    return record or RequestRecord("", request.method, request.url.path)


Served = Annotated[ServedModel, Depends(_served)]
Loaded = Annotated[LoadedModel, Depends(_loaded)]
"""The loaded model; a request is refused with 503 while there is none."""
Record = Annotated[RequestRecord, Depends(_record)]


async def _context(request: Request, served: Served, record: Record) -> RequestContext:
    return RequestContext(served, request.app.state.shares, record, request)


Context = Annotated[RequestContext, Depends(_context)]
XSteering = Annotated[
    str | None,
    Header(max_length=1000, description="Strengths such as toxicity=1.5,privacy=1; `steering` in the body wins."),
]


async def _steered_context(context: Context, request: Request, x_steering: XSteering = None) -> RequestContext:
    """Several such headers are one, joined by commas, as HTTP has it."""
    given = request.headers.getlist(HEADER)
    header = x_steering if len(given) < 2 else ",".join(given)
    return replace(context, x_steering=None if header is None else _as_sent(header))


def _as_sent(header: str) -> str:
    """A header in the encoding that clients write today, where it is: HTTP reads bytes as Latin-1."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


SteeredContext = Annotated[RequestContext, Depends(_steered_context)]
"""The context of a request that can be steered by a header."""
