"""Small tokenizers of every kind: byte-level, byte-fallback with and without a stripped first space, and words."""

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordLevel
from transformers import PreTrainedTokenizerFast

SPECIAL = "<|im_start|>"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def byte_level():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {token: place for place, token in enumerate(["<end>", *alphabet, "th", "the", "Ġthe"])}
    tokenizer = Tokenizer(BPE(words, [("t", "h"), ("th", "e"), ("Ġ", "the")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return fast(tokenizer, eos_token="<end>")


def byte_fallback(strips=True):
    names = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *LETTERS, "th", "the", "▁the", "漢"]
    words = {token: place for place, token in enumerate(names)}
    merges = [("t", "h"), ("th", "e"), ("▁", "the")]
    tokenizer = Tokenizer(BPE(words, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    steps = [normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), *steps] if strips else steps)
    stripping = [decoders.Strip(" ", 1, 0)] if strips else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *stripping]
    )
    return fast(tokenizer, unk_token="<unk>", eos_token="</s>")


def words():
    names = {name: place for place, name in enumerate(["?", "the", "city", "is", "near"])}
    tokenizer = Tokenizer(WordLevel(names, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return fast(tokenizer, unk_token="?")


def fast(tokenizer, **special):
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)
    made.add_special_tokens({"additional_special_tokens": [SPECIAL]})
    return made


BYTES = {"byte-level": byte_level, "byte-fallback": byte_fallback, "unstripped": lambda: byte_fallback(strips=False)}
