"""What routes are given: the served model, and the record of the request at hand."""

from typing import Annotated

from fastapi import Depends, Request

from serving.api.request_record import KEY, RequestRecord
from serving.served_model import LoadedModel, ServedModel


async def _served(request: Request) -> ServedModel:
    served: ServedModel = request.app.state.served
    return served


def _running(request: Request) -> LoadedModel:
    served: ServedModel = request.app.state.served
    return served.require_loaded()


def _record(request: Request) -> RequestRecord:
    record: RequestRecord | None = request.scope.get(KEY)
    return record or RequestRecord("", request.method, request.url.path)


Served = Annotated[ServedModel, Depends(_served)]
Loaded = Annotated[LoadedModel, Depends(_running)]
"""The loaded model; a request is refused with 503 while there is none."""
Record = Annotated[RequestRecord, Depends(_record)]
