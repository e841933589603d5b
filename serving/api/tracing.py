"""Traces of requests, made from their records."""

import json
import time

from registry.traces import Trace
from serving.api.request_record import RequestRecord


def trace_of(record: RequestRecord) -> Trace | None:
    """The trace of a request that generated something; it holds texts only where the record does."""
    if not record.generates:
        return None
    ended = time.time_ns()
    outputs = {"answers": record.answers} if record.keeps_texts else {"generated_tokens": record.generated_tokens}
    return Trace(
        name=record.path,
        began=ended - int(record.seconds * 1e9),
        ended=ended,
        inputs={"prompt": record.prompt} if record.keeps_texts else {"prompt_tokens": record.prompt_tokens},
        outputs={**outputs, "readings": record.readings} if record.readings else outputs,
        attributes={
            "request_id": record.request_id,
            "status": str(record.status),
            "fingerprint": record.fingerprint,
            "applied": json.dumps(record.applied),
            "variant": record.variant,
        },
        failed=record.status >= 400,
    )
