"""Chat templates in processes of their own: the text of transformers, and an end to those that have none."""

import os
import threading
import time

import psutil
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from registry.errors import Unavailable
from serving.model.chat_templates import PLACES, SHARE, ChatTemplates, TemplateRefused, TemplateShareExceeded

HONEST = (
    "{{ bos_token }}{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% if m.role == 'critic' %}{{ raise_exception('no critics') }}{% endif %}{% if m.name is defined %}!{% endif %}"
    "{% generation %}{% endgeneration %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
GROWS = (
    "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}"
)
LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
USER = {"role": "user", "content": "näher 🦀", "name": None}


def tokenizer(template):
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"<s>": 0}, "<s>")), bos_token="<s>")
    made.chat_template = template
    return made


@pytest.fixture(scope="module")
def templates():
    made = ChatTemplates(seconds=3)
    yield made
    made.close()


def test_the_text_is_that_of_transformers(templates):
    honest, tools = tokenizer(HONEST), [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    for given in (None, tools):
        expected = honest.apply_chat_template([USER], tools=given, add_generation_prompt=True, tokenize=False)
        assert templates.render(honest, [USER], given) == expected
    assert expected.endswith("<user>näher 🦀<assistant>") and expected.startswith("<s>[{")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (LOOPS, "took longer than 3 s on these messages"),
        (GROWS, "fails on these messages|ended its process|took longer than 3 s"),
        ("{{ 'a' * 10 ** 10 }}", "fails on these messages|ended its process"),
        ("{{ 'a' * 5000000 }}", "its text has more than 4,194,304 characters"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "fails on these messages .OverflowError"),
        ("{{ messages.nothing.at.all }}", "refuses these messages"),
        ("{{ ''.__class__.__mro__ }}", "refuses these messages"),
    ],
)
def test_a_hostile_template_ends_its_own_request_soon(templates, template, reason):
    began = time.monotonic()
    with pytest.raises(TemplateRefused, match=reason):
        templates.render(tokenizer(template), [USER])
    assert time.monotonic() - began < 60
    assert templates.render(tokenizer("{{ messages[0].content }}"), [USER]) == "näher 🦀"


LOOPS_FOR_SOME = (
    "{% for m in messages %}{% if m.content == 'loop' %}" + LOOPS + "{% endif %}{{ m.content }}{% endfor %}"
)


class Looping(threading.Thread):
    """A client whose conversation is rendered for ever."""

    def __init__(self, templates, client):
        super().__init__(daemon=True)
        self.templates, self.client, self.error = templates, client, None
        self.began = time.monotonic()
        self.start()

    def run(self):
        try:
            self.templates.render(tokenizer(LOOPS_FOR_SOME), [{"role": "user", "content": "loop"}], client=self.client)
        except (TemplateRefused, TemplateShareExceeded, Unavailable) as error:
            self.error, self.seconds = error, time.monotonic() - self.began


def test_a_client_whose_conversations_loop_holds_up_itself_alone(templates):
    looping = tokenizer(LOOPS_FOR_SOME)
    hostile = [Looping(templates, "hostile") for _ in range(20)]
    time.sleep(0.5)
    for client in ("first", "second"):
        began = time.monotonic()
        assert templates.render(looping, [USER], client=client) == USER["content"]
        assert time.monotonic() - began < 0.5
    for thread in hostile:
        thread.join(20)
    refused = [thread for thread in hostile if isinstance(thread.error, TemplateShareExceeded)]
    assert len(refused) == 20 - SHARE and all(thread.seconds < 2.5 for thread in refused)
    assert "2 conversations of this client are still being rendered" in str(refused[0].error)
    assert templates.render(looping, [USER], client="hostile") == USER["content"]


def test_with_every_place_taken_others_are_told_so_soon(templates):
    looping = tokenizer(LOOPS_FOR_SOME)
    hostile = [Looping(templates, f"hostile {number // SHARE}") for number in range(PLACES)]
    time.sleep(0.5)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="8 conversations are being rendered by the chat template; try again"):
        templates.render(looping, [USER], client="honest")
    assert time.monotonic() - began < 2.5
    for thread in hostile:
        thread.join(20)
        assert isinstance(thread.error, TemplateRefused)
    assert templates.render(looping, [USER], client="honest") == USER["content"]


def test_a_slow_rendering_yields_the_machine_and_is_ended(templates):
    slow = Looping(templates, "hostile")
    time.sleep(1)
    lowest = [child for child in children_of(templates) if child.nice() == 19]
    assert lowest
    slow.join(20)
    assert not psutil.wait_procs(lowest, timeout=10)[1]
    assert {child.nice() for child in children_of(templates)} <= {0}


def children_of(templates):
    return psutil.Process(templates._parent._process.pid).children()


def test_a_process_that_was_killed_is_replaced(templates):
    looping = tokenizer(LOOPS_FOR_SOME)
    templates.render(looping, [USER])
    os.kill(templates._idle[-1]._process_id, 9)
    time.sleep(0.2)
    assert templates.render(looping, [USER]) == USER["content"]
    os.kill(templates._parent._process.pid, 9)
    time.sleep(0.2)
    templates.close()
    assert templates.render(looping, [USER]) == USER["content"]


def test_a_refusal_says_the_templates_own_words(templates):
    with pytest.raises(TemplateRefused, match="refuses these messages: no critics"):
        templates.render(tokenizer(HONEST), [{"role": "critic", "content": "x"}])
