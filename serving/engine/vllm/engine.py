"""vLLM engine: stock vLLM's scheduler, its kernels, its parallelism, and the same coefficient matrix.

vLLM runs in processes of its own; this side keeps one event loop on a thread, gives each request rows of the workers'
directions (``rows``), and turns its outputs into the events of every engine. A request keeps the bank that it
began with: the versions of two banks stand in rows side by side. The cache of prompts is keyed by the plan's
fingerprint and the client, so that nothing computed under one setting serves another, and nothing asked by one client
another (``cache_salt``).
"""

import asyncio
import logging
import threading
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import numpy as np

from registry.errors import InvalidInput, TrustTraceError
from serving.engine.admission import Admission
from serving.engine.base import (
    Engine,
    EngineStopped,
    FinishReason,
    Generation,
    GenerationRequest,
    HiddenStates,
    Keep,
)
from serving.engine.grammar import GrammarCompiler
from serving.engine.requirements import (
    require_bank_of,
    require_operations,
    require_room,
    require_tokens,
)
from serving.engine.stats import EngineStats
from serving.engine.vllm.generation import VllmGeneration
from serving.engine.vllm.process import STOPPED, VllmProcess
from serving.engine.vllm.reports import StepReports
from serving.engine.vllm.row_queue import RowQueue
from serving.engine.vllm.rows import DirectionRows, cache_salt, encoded, operations_of
from serving.engine.vllm.tables import TableLoans, tables_of
from serving.engine.vllm.vllm_sequence import VllmSequence
from serving.engine.window import end_tokens, window_of
from serving.model.language_model import LanguageModel, require_layer
from serving.model.norms import PLAIN_SENTENCES

FEWEST_ROWS = 32

logger = logging.getLogger(__name__)


class VllmEngine:
    """Runs one model in vLLM until ``close``.

    ``slots`` requests run at once and ``queue_limit`` more may wait. ``window`` bounds prompt and answer together.
    ``rows`` directions, one a layer of a vector, can be used at one time, by default those of four vectors over all
    layers; requests that find none free wait in their order. ``arguments`` are vLLM's own, such
    as ``{"tensor_parallel_size": 2}``. The network of ``model`` is not run and may be on the meta device.
    Raises ``Unavailable`` where vLLM is missing or does not start, ``Mismatch`` for a release that was not tested.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        slots: int = 16,
        queue_limit: int = 64,
        window: int | None = None,
        rows: int | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        rows = max(FEWEST_ROWS, 4 * model.n_layers) if rows is None else rows
        for name, value, least in (("slots", slots, 1), ("queue_limit", queue_limit, 0), ("rows", rows, 1)):
            if value < least:
                raise InvalidInput(f"{name} is {value} and must be at least {least}")
        self.model, self.window = model, window_of(model, window)
        self.operations = operations_of(arguments or {})
        """What of steering this engine can do."""
        self._facts = model.facts
        self.vocabulary = model.vocabulary
        self._admission = Admission(slots, queue_limit)
        self._ends = end_tokens(model)
        self._grammars = GrammarCompiler(model.tokenizer, self.vocabulary, self._ends)
        self._rows = DirectionRows(rows)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._queue = RowQueue(self._rows, lambda told: self.process.put(told))
        self._tables = TableLoans(lambda table, forgotten: self.process.learn(table, forgotten))
        self._reports = StepReports(lambda: self.process.reports())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm-engine", daemon=True)
        self._thread.start()
        try:
            self.process = self._on_loop(VllmProcess.start(model, self.window, slots, rows, arguments or {})).result()
        except BaseException:
            self._stop_loop()
            raise
        try:
            self._on_loop(self.process.warm_up()).result()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "VllmEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def problem(self) -> str:
        return STOPPED if self.process.failed else ""

    def submit(self, request: GenerationRequest) -> Generation:
        require_operations(request.operations, self.operations)
        require_bank_of(request.plan, self._facts)
        require_tokens(request.prompt_tokens, self.vocabulary)
        require_room(request.prompt_tokens, self.window)
        self._rows.require_room(request.plan)
        grammar = self._grammars.compile(request.sampling)
        self._admit()
        generation = VllmGeneration(request, self._loop, grammar)
        self._on_loop(self._begin(generation))
        return generation

    def hidden_states(
        self,
        sequences: Sequence[Sequence[int]],
        layers: Sequence[int],
        client: str = "",  # noqa: ARG002
        keep: Keep | None = None,
    ) -> "Future[HiddenStates]":
        for layer in layers:
            require_layer(self.model, layer)
        for tokens in sequences:
            require_tokens(tokens, self.vocabulary)
            require_room(tokens, self.window)  # vLLM draws a token of every text
        self._admit()
        return self._on_loop(self._read_all(sequences, layers, keep))

    def stats(self) -> EngineStats:
        admission, counts = self._admission, self.process.counts
        return EngineStats(
            active=admission.active,
            queued=admission.waiting,
            capacity=admission.slots,
            queue_limit=admission.queue_limit,
            prompt_tokens_total=counts.prompt_tokens,
            generated_tokens_total=counts.generated_tokens,
            steps_total=counts.steps,
            mean_batch=counts.generated_tokens / max(1, counts.steps),
        )

    def drain(self, seconds: float) -> bool:
        return self._admission.drain(seconds)

    def close(self) -> None:
        self._admission.close()
        if not self._thread.is_alive():
            return
        self._on_loop(self._cancel_all()).result()
        self._on_loop(self.process.stop()).result()
        self._stop_loop()

    def _on_loop(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _admit(self) -> None:
        """Count one more request. Raises ``EngineStopped``, ``QueueFull``."""
        if self.problem and self._admission.admits:
            raise EngineStopped(self.problem)
        self._admission.admit()

    async def _cancel_all(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin(self, generation: VllmGeneration) -> None:
        task = generation.task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        running = VllmSequence(generation, self.model.token_bytes, generation.grammar)
        reason: FinishReason = "cancelled"
        error = ""
        try:
            if not generation.cancelled:
                reason = await self._run(running)
        except asyncio.CancelledError:
            pass
        except Exception as failure:
            told = self._as_told(failure)
            if not isinstance(told, InvalidInput):
                logger.exception("vLLM failed a request")
            reason = "refused" if isinstance(told, InvalidInput) else "unavailable" if self.problem else "error"
            error = str(told)
        finally:
            self._tasks.discard(task)
            if running.tokens:  # the last one is drawn and never read
                running.cached = len(running.prompt) + len(running.tokens) - 1
            running.finish(reason, error)
            self._admission.ended(running.seconds)

    async def _run(self, running: VllmSequence) -> FinishReason:
        """Until the answer ends; why it did."""
        request, key = running.request, str(uuid.uuid4())
        async with self._carried(request, key) as carried:
            follows = self._grammars.specification(request.sampling)
            parameters = self.process.parameters(request, self._room(running), self._ends, carried, follows)
            salt = cache_salt(request.plan, len(running.prompt), key, request.client)
            outputs = self.process.generate(running.prompt, parameters, salt=salt, score_prompt=running.score_prompt)
            try:
                async for token, logprobs in outputs:
                    if not running.sampling.max_tokens:
                        running.cached = len(running.prompt)
                        return "length"
                    probed = await self._reports.readings(key, running.position) if request.monitor else ()
                    ends = token in self._ends and not running.sampling.ignore_eos
                    full = len(running.prompt) + len(running.tokens) + 1 >= self.window
                    reason = running.accept(token, logprobs, ends, full, probed)
                    if reason is not None:
                        return reason
            finally:
                await outputs.aclose()
                if request.plan.state_dependent and not self.process.failed:
                    running.moved = await self._reports.moved(key)
            raise EngineStopped("vLLM ended an answer before its time")

    @asynccontextmanager
    async def _carried(self, request: GenerationRequest, key: str) -> AsyncIterator[dict[str, Any]]:
        """What a request carries to the workers, who are told what it needs and keep it meanwhile."""
        plan = request.plan
        carried: dict[str, Any] = {}
        with ExitStack() as lent:
            if plan.rows:
                rows = await self._queue.take(plan)
                lent.callback(self._queue.give_back, rows)
                carried |= encoded(plan, rows)
            tables, of_tables = tables_of(request)
            for table in tables:
                await self._tables.take(table)
                lent.callback(self._tables.give_back, table)
            if tables:
                self._reports.open(key)
                lent.callback(self._reports.close, key)
                carried |= {"key": key, **of_tables}
            yield carried

    def _room(self, running: VllmSequence) -> int:
        return max(1, min(running.sampling.max_tokens, self.window - len(running.prompt)))

    async def _read_all(
        self, sequences: Sequence[Sequence[int]], layers: Sequence[int], keep: Keep | None
    ) -> HiddenStates:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            read: HiddenStates = []
            for tokens in sequences:
                states = await self.process.hidden_states(tokens, layers, self.model.d_model, str(uuid.uuid4()))
                read.append(states if keep is None else keep(states))
            return read
        except asyncio.CancelledError:
            raise EngineStopped("the engine stopped before it could answer") from None
        except Exception as failure:
            raise self._as_told(failure) from failure
        finally:
            self._tasks.discard(task)
            self._admission.ended()

    def _as_told(self, failure: Exception) -> Exception:
        """What a client is told of a failure: where vLLM has stopped, what everybody is told who asks from then on."""
        if self.problem:
            return EngineStopped(self.problem)
        if isinstance(failure, TrustTraceError):
            return failure
        return RuntimeError(f"vLLM failed the request ({type(failure).__name__}); the service's log says why")


def norms_read(model: LanguageModel, engine: Engine) -> dict[int, float]:
    """``residual_norms`` of a model whose weights the engine alone holds."""
    layers = range(model.n_layers)
    sequences = [model.tokenizer(text)["input_ids"] for text in PLAIN_SENTENCES]
    states = engine.hidden_states(sequences, layers).result()
    return {
        layer: float(np.median(np.concatenate([np.linalg.norm(of_text[layer][1:], axis=-1) for of_text in states])))
        for layer in layers
    }
