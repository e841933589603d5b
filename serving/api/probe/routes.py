"""Probe route: texts scored, none generated."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from serving.api.dependencies import Loaded, SteeredContext
from serving.api.error_documents import documented
from serving.api.probe.requests import ProbeRequest
from serving.api.probe.responses import ProbeResponse
from serving.api.probe.scoring import score

router = APIRouter(tags=["probes"])


@router.post(
    "/v1/probe",
    responses={200: {"model": ProbeResponse}, **documented(404, 429, 503, 504)},
    summary="Score texts by the registered probes",
)
async def probe(body: ProbeRequest, context: SteeredContext, loaded: Loaded) -> JSONResponse:
    """P(trustworthy) of each text, or of a conversation, by dimension; of every token where asked for."""
    context.require_no_header("steers no text that is scored: leave it out")
    return JSONResponse(await score(context, loaded, body))
