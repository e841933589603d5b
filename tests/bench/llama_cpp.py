"""llama.cpp by its C interface, from the library that the npm package ``@node-llama-cpp/linux-x64`` carries.

That package has ggml built for each kind of CPU and loads the one for this machine; the wheels built for every machine
have AVX2 alone. Of parameters that llama.cpp takes by value the first fields are named, which have stood for years;
the rest is left as the library fills it in, and what was set is asked back from it.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from jaxtyping import Float32

TOKENS_PER_BATCH = 2048
LOGIT_AT_EACH = -1
Handle = ctypes.c_void_p


class ModelParameters(ctypes.Structure):
    _fields_ = (("unnamed", ctypes.c_uint64 * 64),)


class ContextParameters(ctypes.Structure):
    _fields_ = (
        ("n_ctx", ctypes.c_uint32),
        ("n_batch", ctypes.c_uint32),
        ("n_ubatch", ctypes.c_uint32),
        ("n_seq_max", ctypes.c_uint32),
        ("unnamed", ctypes.c_uint64 * 62),
    )


class TokenBatch(ctypes.Structure):
    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.POINTER(ctypes.c_float)),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


SIGNATURES = {
    "llama_version": (ctypes.c_char_p, ()),
    "llama_print_system_info": (ctypes.c_char_p, ()),
    "llama_log_set": (None, (ctypes.c_void_p, ctypes.c_void_p)),
    "llama_model_default_params": (ModelParameters, ()),
    "llama_model_load_from_file": (Handle, (ctypes.c_char_p, ModelParameters)),
    "llama_model_get_vocab": (Handle, (Handle,)),
    "llama_model_n_embd": (ctypes.c_int32, (Handle,)),
    "llama_model_n_layer": (ctypes.c_int32, (Handle,)),
    "llama_vocab_n_tokens": (ctypes.c_int32, (Handle,)),
    "llama_context_default_params": (ContextParameters, ()),
    "llama_init_from_model": (Handle, (Handle, ContextParameters)),
    "llama_set_n_threads": (None, (Handle, ctypes.c_int32, ctypes.c_int32)),
    "llama_n_ctx_seq": (ctypes.c_uint32, (Handle,)),
    "llama_n_seq_max": (ctypes.c_uint32, (Handle,)),
    "llama_n_threads": (ctypes.c_int32, (Handle,)),
    "llama_get_memory": (Handle, (Handle,)),
    "llama_memory_clear": (None, (Handle, ctypes.c_bool)),
    "llama_set_adapter_cvec": (
        ctypes.c_int32,
        (Handle, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32),
    ),
    "llama_batch_init": (TokenBatch, (ctypes.c_int32, ctypes.c_int32, ctypes.c_int32)),
    "llama_decode": (ctypes.c_int32, (Handle, TokenBatch)),
    "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), (Handle, ctypes.c_int32)),
}
_silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)


class Library:
    """The functions of ``SIGNATURES``, from a directory that holds libllama and ggml."""

    def __init__(self, directory: Path) -> None:
        ggml, llama = (ctypes.CDLL(str(_only(directory, f"lib{name}.v*.so"))) for name in ("ggml", "llama"))
        for name, (answer, takes) in SIGNATURES.items():
            function = getattr(llama, name)
            function.restype, function.argtypes = answer, takes
            setattr(self, name, function)
        llama.llama_log_set(_silent, None)
        ggml.ggml_backend_load_all_from_path(str(directory).encode())

    @property
    def version(self) -> str:
        return self.llama_version().decode()

    @property
    def system(self) -> str:
        """Which instructions of the CPU it uses."""
        return self.llama_print_system_info().decode()


def _only(directory: Path, pattern: str) -> Path:
    (path,) = directory.glob(pattern)
    return path


class LlamaModel:
    """One model file, in a context that holds ``sequences`` of ``window`` tokens."""

    def __init__(self, library: Library, path: Path, *, threads: int, sequences: int, window: int) -> None:
        self._library = library
        model = library.llama_model_load_from_file(str(path).encode(), library.llama_model_default_params())
        if not model:
            raise RuntimeError(f"llama.cpp {library.version} cannot load {path}")
        parameters = library.llama_context_default_params()
        parameters.n_ctx, parameters.n_seq_max = sequences * window, sequences
        parameters.n_batch = parameters.n_ubatch = TOKENS_PER_BATCH
        self._context = library.llama_init_from_model(model, parameters)
        library.llama_set_n_threads(self._context, threads, threads)
        asked = {"llama_n_ctx_seq": window, "llama_n_seq_max": sequences, "llama_n_threads": threads}
        held = {name: getattr(library, name)(self._context) for name in asked}
        if held != asked:
            raise RuntimeError(f"llama.cpp {library.version} was asked for {asked} and has {held}")
        self.d_model, self.n_layers = library.llama_model_n_embd(model), library.llama_model_n_layer(model)
        self._vocabulary = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))
        self._batch = library.llama_batch_init(TOKENS_PER_BATCH, 0, 1)

    def steer(self, control_vector: Path | None) -> None:
        """Add a control vector at scale 1 from now on, as ``--control-vector`` does; ``None`` for none."""
        arguments = (None, 0, 0, 0, 0)
        if control_vector is not None:
            data = np.zeros((self.n_layers - 1, self.d_model), np.float32)
            for tensor in GGUFReader(control_vector).tensors:
                data[int(tensor.name.removeprefix("direction.")) - 1] = tensor.data
            arguments = (data.ctypes.data, data.size, self.d_model, 1, self.n_layers)
        if self._library.llama_set_adapter_cvec(self._context, *arguments):
            raise RuntimeError(f"llama.cpp {self._library.version} refuses {control_vector}")

    def generate(self, prompts: Sequence[Sequence[int]], n_tokens: int) -> list[list[int]]:
        """Greedy answers to prompts that run together, each ``n_tokens`` long whatever it says."""
        self._forget()
        places = [(number, position) for number, prompt in enumerate(prompts) for position in range(len(prompt))]
        rows = np.cumsum([len(prompt) for prompt in prompts]) - 1
        self._decode([token for prompt in prompts for token in prompt], places, set(rows.tolist()))
        answers: list[list[int]] = [[] for _ in prompts]
        for step in range(n_tokens):
            last = [int(self._logits(int(row)).argmax()) for row in rows]
            for answer, token in zip(answers, last, strict=True):
                answer.append(token)
            if step + 1 < n_tokens:
                rows = np.arange(len(prompts))
                places = [(number, len(prompt) + step) for number, prompt in enumerate(prompts)]
                self._decode(last, places, set(rows.tolist()))
        return answers

    def logits(self, tokens: Sequence[int]) -> Float32[np.ndarray, "tokens vocabulary"]:
        self._forget()
        self._decode(tokens, [(0, position) for position in range(len(tokens))], set(range(len(tokens))))
        return np.stack([self._logits(row) for row in range(len(tokens))])

    def _forget(self) -> None:
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)

    def _decode(self, tokens: Sequence[int], places: Sequence[tuple[int, int]], wanted: set[int]) -> None:
        """``places`` are the tokens' sequences and positions; ``wanted`` are the rows whose logits are asked for."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for row, (token, (sequence, position)) in enumerate(zip(tokens, places, strict=True)):
            batch.token[row], batch.pos[row] = token, position
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
            batch.logits[row] = row in wanted
        if problem := self._library.llama_decode(self._context, batch):
            raise RuntimeError(f"llama.cpp could not decode {len(tokens)} tokens: {problem}")

    def _logits(self, row: int) -> Float32[np.ndarray, " vocabulary"]:
        """Of a row of the last ``_decode``; a copy."""
        pointer = self._library.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, (self._vocabulary,)).copy()
