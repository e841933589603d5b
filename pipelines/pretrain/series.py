"""The embedded checkpoint series, made once for each configuration and corpus and then found by content."""

import fcntl
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from pipelines.pretrain.corpus import Corpus, corpus_from, packaged_corpus
from pipelines.pretrain.options import SeriesConfig
from pipelines.pretrain.trainer import MANIFEST, LossRecord, OnStep, train
from registry.cache import cache_root, writable
from registry.counts import counted
from registry.errors import InvalidInput

END_OF_TEXT = "<|endoftext|>"


def ensure_series(config: SeriesConfig, on_step: OnStep = lambda _: None) -> Path:
    """The directory of the series, trained now unless it was before; training that was interrupted goes on.

    It holds one Hugging Face checkpoint a directory, ``step_000000`` to the last, and ``series.json`` with the corpus'
    card and the loss of every step. A process that asks while another trains waits for it.
    """
    directory = _directory(config)
    if is_trained(config):
        return directory
    with (writable(directory) / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_trained(config):
            _make_series(config, directory, on_step)
    return directory


def is_trained(config: SeriesConfig) -> bool:
    """Whether ``ensure_series`` finds the series whole."""
    return (_directory(config) / MANIFEST).is_file()


def _directory(config: SeriesConfig) -> Path:
    return cache_root() / "series" / config.key


def _make_series(config: SeriesConfig, directory: Path, on_step: OnStep) -> None:
    corpus = _corpus(config)
    tokenizer, tokens = _tokenise(corpus, config.training.vocabulary)
    _require_batch(len(tokens), config)
    training = replace(config.training, vocabulary=len(tokenizer))
    records = train(tokens, tokenizer, training, directory, on_step)
    content = {
        "config": asdict(config),
        "corpus": corpus.card,
        "corpus_digest": corpus.digest,
        "corpus_tokens": len(tokens),
        "losses": [[record.step, round(record.loss, 4)] for record in records],
    }
    (directory / f".{MANIFEST}").write_text(json.dumps(content, indent=1))
    os.replace(directory / f".{MANIFEST}", directory / MANIFEST)


def _require_batch(tokens: int, config: SeriesConfig) -> None:
    """Raise ``InvalidInput`` for a corpus that does not fill one batch."""
    needed = config.training.batch_sequences * config.training.sequence_tokens + 1
    if tokens < needed:
        raise InvalidInput(
            f"corpus {config.corpus!r} has {counted(tokens, 'token')} and one optimiser step reads {needed:,}; "
            f"give more text"
        )


def loss_curve(directory: Path) -> list[LossRecord]:
    """The training loss of every step of a finished series."""
    losses = json.loads((directory / MANIFEST).read_text())["losses"]
    return [LossRecord(step, loss, 0.0) for step, loss in losses]


def _corpus(config: SeriesConfig) -> Corpus:
    if config.corpus == "packaged":
        return packaged_corpus(
            prose_characters=config.prose_characters,
            generated_rounds=config.generated_rounds,
            seed=config.training.seed,
        )
    return corpus_from(Path(config.corpus).expanduser(), seed=config.training.seed)


def _tokenise(corpus: Corpus, vocabulary: int) -> tuple[PreTrainedTokenizerFast, Int64[np.ndarray, " n"]]:
    """A byte-level BPE tokenizer of the corpus, and the corpus in it, documents parted by the end-of-text token."""
    model = ByteLevelBPETokenizer()
    model.train_from_iterator(
        corpus.documents, vocab_size=vocabulary, special_tokens=[END_OF_TEXT], show_progress=False
    )
    encoded = model.encode_batch(list(corpus.documents))
    tokens = np.concatenate([np.array([0, *encoding.ids], np.int64) for encoding in encoded])
    backend = model._tokenizer
    # Statements start as documents do.
    backend.post_processor = TemplateProcessing(single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT), tokens
