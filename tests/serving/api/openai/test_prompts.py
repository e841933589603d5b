"""Prompts: texts on their way to tokens."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from serving.api.openai.prompts import LONG, text_tokens


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
        list(pool.map(lambda _: text_tokens(SimpleNamespace(tokenizer=tokenizer), "a" * length), range(4)))
    return tokenizer.most


def test_long_texts_are_made_tokens_one_at_a_time():
    assert at_once(LONG + 1, lambda: time.sleep(0.05)) == 1


def test_other_texts_wait_for_none():
    all_there = threading.Barrier(4, timeout=60)
    assert at_once(LONG, all_there.wait) == 4
