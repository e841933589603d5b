"""vLLM process: started, asked and stopped. vLLM's names appear here and in ``worker`` alone."""

import asyncio
import gc
import os
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from registry.errors import InvalidInput, Unavailable, first_line
from serving.engine.base import EngineStopped, GenerationRequest
from serving.engine.sequence import Logprobs
from serving.engine.vllm.reports import Fetched
from serving.engine.vllm.rows import KEY
from serving.engine.vllm.tables import WorkerTable
from serving.engine.vllm.version import installed_release, require_tested
from serving.model.language_model import LanguageModel
from serving.model.weights import locate
from serving.steering.bank import ServedVector

OURS = frozenset(
    {
        "model", "tokenizer", "dtype", "max_model_len", "max_num_seqs", "worker_extension_cls",
        "structured_outputs_config", "additional_config", "trust_remote_code",
        "logprobs_mode", "max_logprobs", "disable_log_stats",
    }
)  # fmt: skip
"""Arguments of vLLM that this engine sets."""
UNSUPPORTED = frozenset(
    {
        "speculative_config", "data_parallel_size", "worker_cls", "runner", "enable_prompt_embeds",
        "skip_tokenizer_init",
    }
)  # fmt: skip
"""Arguments under which tokens would not be steered as asked or follow no schema, or that nobody has tried."""

STOPPED = "vLLM has stopped; its log says why, and the service has to be started again"
MOST_LOGPROBS = 20
CPU_CACHE_BYTES = 4 * 2**30
"""At most this much memory for keys and values on a CPU, where vLLM would take nearly all there is."""


@dataclass
class Counts:
    """What has been run since the start."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    steps: int = 0


class VllmProcess:
    """One ``AsyncLLM``. Every method belongs to the event loop that ``start`` ran on."""

    def __init__(self, llm: Any, counts: Counts) -> None:
        self.counts = counts
        self._llm = llm
        self._requests = 0

    @classmethod
    async def start(
        cls, model: LanguageModel, window: int, slots: int, rows: int, arguments: Mapping[str, Any]
    ) -> "VllmProcess":
        """Raises ``Unavailable``, ``Mismatch`` and ``InvalidInput`` as ``VllmEngine`` says."""
        require_tested(installed_release())
        require_allowed(arguments)
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # this process has threads
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        given = {
            **own_arguments(model, window, slots, rows),
            **_cache_size(model, window, slots, arguments),
            **arguments,
        }
        counts = Counts()
        try:
            llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**given), stat_loggers=[_counting(counts)])
        except Exception as error:
            raise Unavailable(
                f"vLLM did not start ({type(error).__name__}: {first_line(error)}); its log says more"
            ) from error
        return cls(llm, counts)

    @property
    def failed(self) -> bool:
        return self._llm is None or bool(self._llm.errored)

    async def warm_up(self) -> None:
        """Run one token, so that what vLLM cannot run is known before there are requests. Raises ``Unavailable``."""
        from vllm import SamplingParams

        try:
            async for _ in self.generate([0], SamplingParams(max_tokens=1, detokenize=False), salt="warm-up"):
                pass
        except Exception as error:
            raise Unavailable(
                f"vLLM started and cannot run this model ({first_line(error)}); its log says more"
            ) from error
        self.counts.prompt_tokens = self.counts.generated_tokens = self.counts.steps = 0

    async def stop(self) -> None:
        """End vLLM's processes; first the task that would take their end for a failure."""
        llm, self._llm = self._llm, None
        if llm.output_handler is not None:
            llm.output_handler.cancel()
            await asyncio.gather(llm.output_handler, return_exceptions=True)
        await asyncio.to_thread(llm.shutdown)
        del llm
        gc.collect()  # it refers to itself, and what it does when it is deleted must not come after Python's own end

    async def facts(self) -> list[dict[str, Any]]:
        """What each worker hooked into."""
        return await self._call("steering_facts")

    async def put(self, placed: Sequence[tuple[int, ServedVector, int]]) -> None:
        """Set rows of every worker's matrices, each to a vector's direction at a layer, before any later request."""
        rows, _, layers = map(list, zip(*placed, strict=True))
        directions = np.stack([vector.vector.at(layer).offset(1.0) for _, vector, layer in placed]).astype("<f4")
        await self._call("steering_put", rows, layers, directions.tobytes())

    async def learn(self, table: WorkerTable, forgotten: Sequence[str]) -> None:
        """Have every worker keep a table, before any later request, and forget others."""
        await self._call("steering_learn", table.name, table.to_bytes(), list(forgotten))

    async def reports(self) -> Sequence[Fetched]:
        """What each worker has moved and read since the last call."""
        return await self._call("steering_reports")

    def parameters(
        self,
        request: GenerationRequest,
        room: int,
        ends: Collection[int],
        carried: Mapping[str, Any],
        follows: Mapping[str, Any],
    ) -> Any:
        """The request in vLLM's terms; ``follows`` is the schema or grammar that its answer must follow."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        sampling = request.sampling
        if (sampling.top_logprobs or 0) > MOST_LOGPROBS:
            raise InvalidInput(f"top_logprobs is {sampling.top_logprobs} and may be {MOST_LOGPROBS} with vLLM")
        return SamplingParams(
            max_tokens=room,
            temperature=0.0 if sampling.is_greedy else sampling.temperature,
            top_p=sampling.top_p,
            seed=None if sampling.seed is None else sampling.seed % 2**63,
            logprobs=sampling.top_logprobs,
            prompt_logprobs=(sampling.top_logprobs or 0) if sampling.prompt_logprobs else None,
            structured_outputs=StructuredOutputsParams(**follows) if follows else None,
            ignore_eos=True,  # the ends are those of the model, which are given
            stop_token_ids=[] if sampling.ignore_eos else sorted(ends),
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args={KEY: dict(carried)} if carried else None,
        )

    async def generate(
        self,
        prompt: Sequence[int],
        parameters: Any,
        salt: str,
        score_prompt: Callable[[Sequence[Logprobs]], None] | None = None,
    ) -> AsyncGenerator[tuple[int, Logprobs | None], None]:
        """The tokens as they are drawn. Closing the iterator ends the request.

        ``score_prompt`` gets the log-probabilities of the prompt's tokens but the first, where they are asked for.
        """
        self._requests += 1
        given: dict[str, Any] = {"prompt_token_ids": list(prompt)}
        if salt:
            given["cache_salt"] = salt
        outputs = self._llm.generate(given, parameters, f"trusttrace-{self._requests}")
        try:
            async for output in outputs:
                (choice,) = output.outputs
                if choice.finish_reason == "error":
                    raise EngineStopped("vLLM ended the request with an error; its log says more")
                if parameters.prompt_logprobs is not None and output.prompt_logprobs and score_prompt is not None:
                    told = zip(prompt[1:], output.prompt_logprobs[1:], strict=True)
                    score_prompt([_ranked(at, token, parameters.prompt_logprobs) for token, at in told])
                    score_prompt = None
                for place, token in enumerate(choice.token_ids):
                    yield int(token), _logprobs(choice.logprobs, place, token, parameters.logprobs)
        finally:
            await outputs.aclose()

    async def hidden_states(
        self, tokens: Sequence[int], layers: Sequence[int], d_model: int, key: str
    ) -> dict[int, Float32[np.ndarray, "tokens d_model"]]:
        """The unsteered residual stream of one sequence, read by the workers; nothing of it is taken from a cache."""
        from vllm import SamplingParams

        carried = {KEY: {"read": key, "layers": list(layers)}}
        parameters = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, extra_args=carried)
        async for _ in self.generate(tokens, parameters, salt=key):
            pass
        found: dict[int, Float32[np.ndarray, "tokens d_model"]] = {}
        for held in await self._call("steering_take", key):
            for layer, content in held.items():
                found[int(layer)] = np.frombuffer(content, "<f4").reshape(-1, d_model)[: len(tokens)]
        if set(found) != set(layers) or any(len(states) != len(tokens) for states in found.values()):
            raise EngineStopped("vLLM's workers read no hidden states; run it with enforce_eager")
        return found

    async def _call(self, method: str, *arguments: Any) -> list[Any]:
        """What each worker answers. Raises ``EngineStopped`` where vLLM stops meanwhile.

        vLLM leaves a call open whose engine core has died, and ends the task that handles outputs.
        """
        if self.failed:
            raise EngineStopped(STOPPED)
        handler = self._llm.output_handler
        call = asyncio.ensure_future(self._llm.collective_rpc(method, args=arguments))
        try:
            await asyncio.wait([task for task in (call, handler) if task is not None], return_when=FIRST_COMPLETED)
            if not call.done():
                raise EngineStopped(STOPPED)
            answers: list[Any] = call.result()
            return answers
        finally:
            call.cancel()


def own_arguments(model: LanguageModel, window: int, slots: int, rows: int) -> dict[str, Any]:
    """What this engine asks of vLLM. The tokenizer is the one that loading took, which may be that of ``main``."""
    files = locate(model.checkpoint)
    return {
        "model": str(files.directory),
        "tokenizer": str(files.tokenizer),
        "dtype": str(model.dtype).removeprefix("torch."),
        "max_model_len": window,
        "max_num_seqs": slots,
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},  # as the engine slots
        "max_logprobs": MOST_LOGPROBS,
        "worker_extension_cls": "serving.engine.vllm.worker.SteeringExtension",
        "additional_config": {KEY: {"rows": rows, "d_model": model.d_model}},  # part of the compile cache's key
    }


def require_allowed(arguments: Mapping[str, Any]) -> None:
    """Raise ``InvalidInput`` for arguments of vLLM that this engine sets, or cannot steer under."""
    for names, reason in ((OURS, "is set by this engine"), (UNSUPPORTED, "cannot be combined with steering here")):
        refused = sorted(names & set(arguments))
        if refused:
            raise InvalidInput(f"{refused[0]} among the arguments for vLLM {reason}; leave it out")


def _cache_size(model: LanguageModel, window: int, slots: int, arguments: Mapping[str, Any]) -> dict[str, int]:
    """On a CPU, memory for every slot's window, up to a bound; nothing where the arguments say how much."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu() or {"kv_cache_memory_bytes", "gpu_memory_utilization"} & set(arguments):
        return {}
    config = model.network.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * model.n_layers * heads * width * model.dtype.itemsize
    # A block more a slot, since blocks are given out whole.
    return {"kv_cache_memory_bytes": max(2**26, min(CPU_CACHE_BYTES, slots * (window + 128) * token))}


def _logprobs(given: Any, place: int, token: int, top: int | None) -> Logprobs | None:
    if top is None or not given:
        return None
    return _ranked(given[place], token, top)


def _ranked(at: Any, token: int, top: int) -> Logprobs:
    """That of ``token``, and the ``top`` likeliest, of vLLM's entries by token."""
    ranked = sorted((entry.rank, other, entry.logprob) for other, entry in at.items() if entry.rank <= top)
    return float(at[token].logprob), [(int(other), float(value)) for _, other, value in ranked[:top]]


def _counting(counts: Counts) -> Any:
    """What vLLM calls after every step."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class Counting(StatLoggerBase):  # type: ignore[misc]
        def __init__(self, *_: object, **__: object) -> None: ...

        def record(self, _scheduler_stats: Any, iteration_stats: Any, *_: object, **__: object) -> None:
            if iteration_stats is not None:
                counts.prompt_tokens += iteration_stats.num_prompt_tokens
                counts.generated_tokens += iteration_stats.num_generation_tokens
                counts.steps += iteration_stats.num_generation_tokens > 0

        def log_engine_initialized(self) -> None: ...

    return Counting
