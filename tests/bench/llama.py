"""llama.cpp beside the slot engine, on the same file and as many threads: `make bench-llama`.

The slot engine computes in bfloat16 with the weights of a quantised GGUF file. llama.cpp runs that file as it is, and
one with the same weights in bfloat16. Both answer the same prompts in turn, and each row is the median of the pairs'
ratios. Then both add the control vector of the shipped pack to the weights in float32. Prints one table.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import numpy as np
import torch

from pipelines.cli.command import run_command
from pipelines.statements.packaged import packaged_statements
from registry.errors import InvalidInput, NotFound
from registry.pack_folder import read_pack
from serving.engine.base import GenerationRequest, Sampling
from serving.engine.slots.engine import SlotEngine
from serving.engine.slots.kernels import Kernels
from serving.model.language_model import LanguageModel, load
from serving.model.residual_stream import steering
from serving.model.sources import find_series
from serving.model.weights import locate
from serving.steering.bank import ServedVector, SteeringBank
from serving.steering.plan import Add, SteeringPlan, TokenScope
from serving.steering.shipped_packs import SHIPPED
from tests.bench.bank import random_bank, tenths
from tests.bench.engine import CONCURRENT, plans, prompts_of, submit_all
from tests.bench.llama_worker import CLOCKS
from tests.bench.table import Comparison, as_markdown, machine
from tests.bench.timing import in_turn, median_ratio
from tests.bench.wide_gguf import widened

LIBRARY = Path(os.environ.get("TRUSTTRACE_LLAMA", ".venv-llama/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"))
ROOT = Path(__file__).parents[2]
WINDOW = 512
STEERED, STEERED_TOKENS = 16, 24
"""Prompts under the control vector, and the tokens of an answer."""
AT_LEAST = {("bfloat16", 1): 1.0, ("bfloat16", CONCURRENT): 2.5}


class LlamaCpp:
    """llama.cpp in a process of its own, so that no thread of one waits for the other."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, do: str, **work: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **work}) + "\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise RuntimeError("llama.cpp's worker has ended; what it wrote to stderr says why")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def llama_cpp(threads: int) -> Iterator[LlamaCpp]:
    """Raises ``NotFound`` where llama.cpp's library is not."""
    if not LIBRARY.is_dir():
        raise NotFound(f"{LIBRARY} does not exist; `make bench-llama` installs llama.cpp, TRUSTTRACE_LLAMA names it")
    command = [sys.executable, "-m", "tests.bench.llama_worker", str(LIBRARY.absolute())]
    command += map(str, (threads, CONCURRENT, WINDOW))
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield LlamaCpp(process)
        finally:
            process.kill()


def compare_rates(
    llama: LlamaCpp, model: LanguageModel, quantised: Path, pairs: int, tokens: int, clock: str
) -> list[Comparison]:
    files = {"as the file has them": quantised, "bfloat16": widened(quantised, "bfloat16")}
    label = f"llama.cpp {llama.ask('version')['version']}"
    none = plans(random_bank(model, tenths(model)), 1, 0)
    per = "/s" if clock == "wall" else " per second of processor time"
    rows = []
    with SlotEngine(model, slots=CONCURRENT, queue_limit=CONCURRENT, kernels=Kernels(four_bit=True)) as engine:
        for name, file in files.items():
            for count in (1, CONCURRENT):
                work = {"file": str(file), "prompts": prompts_of(model, count), "n_tokens": tokens}
                llama.ask("generate", **work)
                times = in_turn(
                    lambda work=work: llama.ask("generate", **work)[clock],  # type: ignore[misc]
                    lambda count=count: seconds_of(engine, count, tokens, none, clock),  # type: ignore[misc]
                    pairs,
                )
                theirs, ours, ratio, low, high = median_ratio(np.array(times))
                requests = "one request" if count == 1 else f"{count} requests at once"
                rows.append(
                    Comparison(
                        f"llama/{file.stem.rsplit('-', 1)[-1]}_{count}",
                        f"{requests} of {tokens} tokens, {pairs} pairs, `{model.checkpoint.model}` bfloat16",
                        f"{count * tokens / ours:.0f} tokens{per}",
                        f"{count * tokens / theirs:.0f} by {label}, weights {name}",
                        ratio,
                        "x",
                        at_least=AT_LEAST.get((name, count)),
                        interval=(low, high),
                    )
                )
    return rows


def seconds_of(engine: SlotEngine, count: int, tokens: int, steered: Sequence[SteeringPlan], clock: str) -> float:
    began = CLOCKS[clock]()
    submit_all(engine, count, tokens, steered, count)
    return CLOCKS[clock]() - began


def compare_control_vector(llama: LlamaCpp, model: LanguageModel, quantised: Path) -> list[Comparison]:
    """In float32, where a difference is a fault: the answers' tokens, and the shift of the logits of all prompts."""
    stored = read_pack(SHIPPED / model.checkpoint.model)
    packed = next(vector for vector in stored.pack.vectors if vector.recommended > 0)
    control = str((stored.directory / "gguf" / f"{packed.dimension}.gguf").absolute())
    vector = ServedVector(packed.registered, packed.vector, packed.probe)
    add = Add(vector, packed.recommended, TokenScope("all", "all"))
    bank = SteeringBank(model.facts, (vector,))
    texts = packaged_statements(packed.dimension).texts[:STEERED]
    prompts = [[int(token) for token in model.tokenizer(text)["input_ids"]] for text in texts]
    file = str(widened(quantised, "float32"))

    theirs, unsteered = (
        llama.ask("generate", file=file, prompts=prompts, n_tokens=STEERED_TOKENS, control=given)["answers"]
        for given in (control, None)
    )
    ours = greedy(model, prompts, SteeringPlan(bank, (add,)))
    equal = sum(map(list.__eq__, ours, theirs))
    moved = sum(answer != plain for answer, plain in zip(theirs, unsteered, strict=True))
    shifts = [100 * (slope(llama, model, prompt, add, file, control) - 1) for prompt in prompts]
    least, median, greatest = np.quantile(shifts, (0, 0.5, 1)).tolist()
    what = f"control vector of {packed.dimension} at {packed.recommended:g} SD, float32"
    return [
        Comparison(
            "llama/control_tokens",
            f"{what}: greedy answers of {STEERED_TOKENS} tokens; it changes {moved} of {STEERED}",
            f"{equal} equal",
            f"{STEERED} by llama.cpp",
            equal / STEERED,
            "x",
            at_least=1.0,
        ),
        Comparison(
            "llama/control_slope",
            f"the same: slope of the logits' shift, median, least and greatest of {STEERED} prompts",
            "ours",
            "llama.cpp's, at every token and column",
            median,
            "%",
            at_least=-0.5,
            at_most=0.5,
            interval=(least, greatest),
        ),
    ]


def greedy(model: LanguageModel, prompts: Sequence[Sequence[int]], plan: SteeringPlan) -> list[list[int]]:
    sampling = Sampling(STEERED_TOKENS, temperature=0.0, ignore_eos=True)
    with SlotEngine(model, slots=len(prompts)) as engine:
        running = [engine.submit(GenerationRequest(tuple(prompt), sampling, plan)) for prompt in prompts]
        return [list(generation.result().tokens) for generation in running]


def slope(llama: LlamaCpp, model: LanguageModel, prompt: list[int], add: Add, file: str, control: str) -> float:
    """Least-squares slope, without intercept, of our shift of the logits on llama.cpp's."""
    offset = torch.from_numpy(add.vector.vector.offset(add.strength))
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        plain = model.network(ids).logits[0]
        with steering(model.network, {add.vector.vector.layer: offset}):
            ours = (model.network(ids).logits[0] - plain).double().numpy()
    with tempfile.TemporaryDirectory() as directory:
        logits = []
        for given in (control, None):
            path = str(Path(directory) / "logits.npy")
            llama.ask("logits", file=file, tokens=prompt, into=path, control=given)
            logits.append(np.load(path).astype(np.float64))
    theirs = logits[0] - logits[1]
    return float((ours * theirs).sum() / (theirs * theirs).sum())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.llama", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2", help="one whose weights are a GGUF file [%(default)s]")
    parser.add_argument("--threads", type=int, default=1, help="of either [%(default)s]")
    parser.add_argument("--pairs", type=int, default=8, help="of either's answers, in turn [%(default)s]")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="processor: on one thread, for a machine not idle [%(default)s]"
    )
    parser.add_argument("--tokens", type=int, default=32, help="of an answer [%(default)s]")
    given = parser.parse_args(arguments)
    checkpoint = find_series(given.model).checkpoints[-1]
    (quantised, *_) = locate(checkpoint).originals
    if quantised.suffix != ".gguf":
        raise InvalidInput(f"{given.model} is no GGUF file, and llama.cpp reads nothing else; give --model smollm2")
    torch.set_num_threads(given.threads)
    with llama_cpp(given.threads) as llama:
        print(json.dumps({**machine(), **llama.ask("version")}), flush=True)
        rows = compare_control_vector(llama, load(checkpoint, precision="float32"), quantised)
        model = load(checkpoint, precision="bfloat16")
        rows += compare_rates(llama, model, quantised, given.pairs, given.tokens, given.clock)
    print(as_markdown(rows))


if __name__ == "__main__":
    sys.exit(run_command(main))
