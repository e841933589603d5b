"""Text tokens: the tokens of a text, with bounded memory for a long one."""

import threading

from transformers import PreTrainedTokenizerBase

from serving.model.freed_memory import give_back_freed_memory

LONG = 32_768
"""Characters of a text whose tokens are made while no other long text's are."""
BYTES_PER_CHARACTER = 256
"""That making tokens of a long text takes meanwhile, at most: a character is a token where the vocabulary has bytes."""
_long_texts = threading.Lock()


def text_tokens(tokenizer: PreTrainedTokenizerBase, text: str, *, add_special_tokens: bool = True) -> tuple[int, ...]:
    """The ids that calling the tokenizer gives; what a long text took goes back to the system at once."""
    if len(text) <= LONG:
        return tuple(tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])
    with _long_texts:
        tokens = _ids_alone(tokenizer, text, add_special_tokens)
        give_back_freed_memory()
    return tokens


def keep_no_words(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the library of tokenizers keep nothing of the texts that it has cut.

    It keeps ten thousand words in each thread, 80 MB where a client makes them long, and saves a tenth of the time.
    """
    resize = getattr(getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None), "_resize_cache", None)
    if resize is not None:
        resize(0)


def _ids_alone(tokenizer: PreTrainedTokenizerBase, text: str, add_special_tokens: bool) -> tuple[int, ...]:
    """Without the offsets that a call keeps of every token, where the tokenizer can do without."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.truncation is not None or backend.padding is not None:
        return tuple(tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])
    (encoding,) = backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
    return tuple(encoding.ids)
