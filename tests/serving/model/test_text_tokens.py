"""Text tokens: those of a call, with little memory for long texts, one at a time."""

import ctypes
import gc
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.model.text_tokens import LONG, keep_no_words, text_tokens
from tests.serving.model.tokenizers_of_each_kind import BYTES, SPECIAL, words


class Tokenizer:
    """Knows how many texts it has had at once."""

    def __init__(self, wait):
        self.at_once = self.most = 0
        self.wait = wait

    def __call__(self, text, add_special_tokens=True):
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.wait()
        self.at_once -= 1
        return {"input_ids": [1]}


def at_once(length, wait):
    tokenizer = Tokenizer(wait)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: text_tokens(tokenizer, "a" * length), range(4)))
    return tokenizer.most


def test_long_texts_are_made_tokens_one_at_a_time():
    assert at_once(LONG + 1, lambda: time.sleep(0.05)) == 1


def test_other_texts_wait_for_none():
    all_there = threading.Barrier(4, timeout=60)
    assert at_once(LONG, all_there.wait) == 4


@pytest.mark.parametrize("kind", [*BYTES, "words"])
@pytest.mark.parametrize("special", [True, False])
def test_long_texts_have_the_tokens_of_a_call(kind, special):
    tokenizer = words() if kind == "words" else BYTES[kind]()
    text = f" the city is near 漢 🦀{SPECIAL}\n" * 1500
    assert len(text) > LONG
    assert text_tokens(tokenizer, text, add_special_tokens=special) == tuple(
        tokenizer(text, add_special_tokens=special)["input_ids"]
    )


def test_a_tokenizer_that_truncates_by_itself_gives_all_tokens():
    tokenizer = BYTES["byte-level"]()
    tokenizer.backend_tokenizer.enable_truncation(5)
    assert len(text_tokens(tokenizer, "a" * (LONG + 1))) == LONG + 1


def test_offsets_of_long_texts_are_not_kept(monkeypatch):
    tokenizer = BYTES["byte-level"]()
    monkeypatch.setattr(type(tokenizer), "__call__", lambda *_, **__: pytest.fail("it was called"))
    assert len(text_tokens(tokenizer, "a" * (LONG + 1))) == LONG + 1


class Held(ctypes.Structure):
    """What ``mallinfo2`` of glibc tells."""

    NAMES = "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    _fields_ = tuple((name, ctypes.c_size_t) for name in NAMES)


def megabytes_held():
    tell = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if tell is None:
        pytest.skip("this C library does not tell what it holds")
    tell.restype = Held
    return tell().uordblks / 1e6


# Of 16 MB; what the process held before may be freed meanwhile.
@pytest.mark.parametrize(("keeps", "least", "most"), [(True, 10, 100), (False, -100, 5)])
def test_a_clients_long_words_are_not_kept(keeps, least, most):
    tokenizer, letters = BYTES["byte-level"](), random.Random(0)
    if not keeps:
        keep_no_words(tokenizer)
    gc.collect()
    before = megabytes_held()
    for _ in range(2000):
        text_tokens(tokenizer, "".join(letters.choices("abcdefgh", k=250)))
    assert least <= megabytes_held() - before <= most


def test_tokenizers_that_keep_no_words_are_left_alone():
    keep_no_words(words())
    keep_no_words(Tokenizer(lambda: None))
