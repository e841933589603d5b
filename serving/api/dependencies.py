"""Dependencies of routes: the served model, the clients' shares of its queue, and the record of the request."""

from typing import Annotated

from fastapi import Depends, Request

from serving.api.fair_share import FairShare
from serving.api.request_record import KEY, RequestRecord
from serving.served_model import LoadedModel, ServedModel


async def _served(request: Request) -> ServedModel:
    served: ServedModel = request.app.state.served
    return served


def _loaded(request: Request) -> LoadedModel:
    served: ServedModel = request.app.state.served
    return served.require_loaded()


async def _shares(request: Request) -> FairShare:
    shares: FairShare = request.app.state.shares
    return shares


async def _record(request: Request) -> RequestRecord:
    record: RequestRecord | None = request.scope.get(KEY)
    return record or RequestRecord("", request.method, request.url.path)


Served = Annotated[ServedModel, Depends(_served)]
Loaded = Annotated[LoadedModel, Depends(_loaded)]
"""The loaded model; a request is refused with 503 while there is none."""
Shares = Annotated[FairShare, Depends(_shares)]
Record = Annotated[RequestRecord, Depends(_record)]
