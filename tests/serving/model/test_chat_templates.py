"""Chat templates in processes of their own: the text of transformers, and an end to those that have none."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from registry.errors import Unavailable
from serving.model import chat_templates, renderers
from serving.model.chat_templates import PLACES, SHARE, ChatTemplates, TemplateShareExceeded
from serving.model.renderers import TemplateRefused

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


class SharedParent(renderers.RendererParent):
    """Loses its children when what asked for them is closed, and goes on."""

    def end(self):
        children = psutil.Process(self._process.pid).children() if self.is_alive else []
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=10)


@pytest.fixture(scope="module", autouse=True)
def shared_parent():
    """The process that children are forked from begins once, and anew where a test has killed it."""
    begun = []

    def parent():
        if not (begun and begun[-1].is_alive):
            begun.append(SharedParent())
        return begun[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat_templates, "RendererParent", parent)
        yield
    for each in begun:
        renderers.RendererParent.end(each)


@pytest.fixture(scope="module")
def templates():
    made = ChatTemplates(seconds=1)
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
        (LOOPS, "took longer than 1 s on these messages"),
        (GROWS, "fails on these messages|ended its process|took longer than 1 s"),
        ("{{ 'a' * 10 ** 10 }}", "fails on these messages|ended its process"),
        ("{{ 'a' * 5000000 }}", "its text has more than 4,194,304 characters"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "fails on these messages .OverflowError"),
        ("{{ messages.nothing.at.all }}", "refuses these messages"),
        ("{{ ''.__class__.__mro__ }}", "refuses these messages"),
        ("{{ '\\ud83d' }}", "fails on these messages .its text holds half of a surrogate pair"),
        ({"tool": "a"}, "no chat template for these messages: .*default"),
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
        self.start()

    def run(self):
        try:
            self.templates.render(tokenizer(LOOPS_FOR_SOME), [{"role": "user", "content": "loop"}], client=self.client)
        except (TemplateRefused, TemplateShareExceeded, Unavailable) as error:
            self.error = error


@pytest.fixture
def endless():
    """Templates that let a conversation loop until they are closed."""
    made = ChatTemplates(seconds=600, longest=600)
    yield made
    made.close()


def until_slow(templates, count):
    while sum(child.is_slow for _, child in templates._rendering) < count:
        time.sleep(0.01)


def test_a_client_whose_conversations_loop_holds_up_itself_alone(endless):
    looping = tokenizer(LOOPS_FOR_SOME)
    hostile = [Looping(endless, "hostile") for _ in range(20)]
    time.sleep(0.5)
    for client in ("first", "second"):
        assert endless.render(looping, [USER], client=client) == USER["content"]
    until_slow(endless, SHARE)
    time.sleep(1.5)
    refused = [thread for thread in hostile if isinstance(thread.error, TemplateShareExceeded)]
    assert len(refused) == 20 - SHARE and endless._rendering
    assert "hold its 2 of 8 places; try again" in str(refused[0].error)
    endless.close()
    for thread in hostile:
        thread.join(20)
    assert endless.render(looping, [USER], client="hostile") == USER["content"]


def test_of_slow_renderings_the_first_gives_way_to_newcomers(endless):
    looping = tokenizer(LOOPS_FOR_SOME)
    hostile = []
    for number in range(PLACES):
        hostile.append(Looping(endless, f"hostile {number // SHARE}"))
        while len(endless._rendering) <= number:
            time.sleep(0.01)
    until_slow(endless, 1)
    for client in ("first", "second", "third"):
        assert endless.render(looping, [USER], client=client) == USER["content"]
        assert sum(not thread.is_alive() for thread in hostile) == 1
    (gone,) = [thread.error for thread in hostile if not thread.is_alive()]
    assert isinstance(gone, Unavailable) and "gave way to another client's; try again" in str(gone)


def test_a_place_that_comes_free_is_a_newcomers(endless, monkeypatch):
    monkeypatch.setattr(chat_templates, "PATIENCE", 600)
    hostile = [Looping(endless, f"hostile {number % (PLACES // SHARE)}") for number in range(4 * PLACES)]
    until_slow(endless, PLACES)
    for number in range(1, 6):
        assert endless.render(tokenizer(LOOPS_FOR_SOME), [USER], client=f"guest {number}") == USER["content"]
        assert sum("gave way" in str(thread.error) for thread in hostile) <= number


def test_who_holds_a_place_is_refused_while_all_are_slow(endless):
    hostile = [Looping(endless, f"hostile {number // SHARE}") for number in range(PLACES - 1)]
    own = Looping(endless, "own")
    while len(endless._rendering) < PLACES:
        time.sleep(0.01)
    with pytest.raises(Unavailable, match="8 conversations are being rendered by the chat template; try again"):
        endless.render(tokenizer(LOOPS_FOR_SOME), [USER], client="own")
    assert all(thread.is_alive() for thread in (*hostile, own))


@pytest.fixture
def stopped():
    """Templates whose one child has begun and was stopped, as one that gets no processor; and what lets it go on."""
    made = ChatTemplates(seconds=0.3)
    assert made.render(tokenizer(HONEST), [USER]).endswith("<assistant>")
    made._longest = 3
    child = made._idle[-1]._process_id
    os.kill(child, signal.SIGSTOP)
    yield made, lambda: os.kill(child, signal.SIGCONT)
    made.close()


def test_a_starved_machine_refuses_no_conversation(stopped):
    templates, go_on = stopped
    threading.Timer(1.0, go_on).start()
    began = time.monotonic()
    assert templates.render(tokenizer(HONEST), [USER]).endswith("<assistant>")
    assert time.monotonic() - began > 0.9
    assert len(templates._idle) == 1


def test_a_machine_without_time_is_not_the_conversations_fault(stopped):
    templates, _ = stopped
    began = time.monotonic()
    with pytest.raises(Unavailable, match="so busy that a chat template was not rendered in 3 s; try again"):
        templates.render(tokenizer(HONEST), [USER])
    assert 2.9 < time.monotonic() - began < 20
    assert not templates._idle


def test_closing_ends_what_is_being_rendered(endless):
    loops = Looping(endless, "anybody")
    until_slow(endless, 1)
    endless.close()
    loops.join(20)
    assert isinstance(loops.error, Unavailable) and "shutting down" in str(loops.error)


ENDLESS = """
import threading, time
from serving.model.chat_templates import ChatTemplates
from tests.serving.model.test_chat_templates import LOOPS, USER, tokenizer
templates = ChatTemplates(seconds=100)
threading.Thread(target=templates.render, args=(tokenizer(LOOPS), [USER]), daemon=True).start()
while not (templates._rendering and templates._rendering[0][1]._process_id):
    time.sleep(0.001)
print(templates._rendering[0][1]._process_id, flush=True)
time.sleep(600)
"""


def test_a_killed_service_leaves_no_rendering_behind():
    with subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, text=True) as service:
        rendering = psutil.Process(int(service.stdout.readline()))
        service.kill()
    assert not psutil.wait_procs([rendering], timeout=10)[1]


def test_a_slow_rendering_yields_the_machine_and_is_ended(templates):
    before = lowered_children(templates)
    slow = Looping(templates, "hostile")
    until_slow(templates, 1)
    (lowest,) = lowered_children(templates) - before
    slow.join(60)
    assert not psutil.wait_procs([lowest, *before], timeout=10)[1]
    assert not lowered_children(templates)


def test_a_client_yields_from_the_beginning_after_a_slow_rendering(endless):
    first = Looping(endless, "hostile")
    until_slow(endless, 1)
    endless._rendering[0][1].give_way("enough")
    first.join(20)
    assert not endless._gives_others_way("hostile")  # nobody else has asked
    endless.render(tokenizer(LOOPS_FOR_SOME), [USER], client="first")
    second = Looping(endless, "hostile")
    while not (endless._rendering and endless._rendering[0][1].is_lowered):
        time.sleep(0.001)
    assert not endless._rendering[0][1].is_slow
    assert endless.render(tokenizer(LOOPS_FOR_SOME), [USER], client="first") == USER["content"]
    assert not endless._idle[-1].is_lowered
    endless.close()
    second.join(20)


def test_a_client_that_was_slow_holds_one_place(endless):
    first = Looping(endless, "hostile")
    until_slow(endless, 1)
    endless.render(tokenizer(LOOPS_FOR_SOME), [USER], client="first")
    endless._rendering[0][1].give_way("enough")
    first.join(20)
    held = [Looping(endless, "hostile") for _ in range(3)]
    until_slow(endless, 1)
    time.sleep(1.5)
    assert len(endless._held("hostile")) == 1
    refused = [str(thread.error) for thread in held if thread.error]
    assert len(refused) == 2 and all("hold its 1 of 8 places" in each for each in refused)
    endless.close()


def lowered_children(templates):
    """The processes that render while nobody else wants the machine."""
    lowered, parent = set(), templates._parent
    for child in psutil.Process(parent._process.pid).children() if parent else ():
        with suppress(psutil.NoSuchProcess):
            lowered |= {child} if child.nice() else set()
    return lowered


def test_a_process_that_was_killed_is_replaced(templates):
    looping, calm = tokenizer(LOOPS_FOR_SOME), "calm"
    templates.render(looping, [USER], client=calm)
    os.kill(templates._idle[-1]._process_id, 9)
    time.sleep(0.2)
    assert templates.render(looping, [USER], client=calm) == USER["content"]
    os.kill(templates._parent._process.pid, 9)
    time.sleep(0.2)
    templates.close()
    assert templates.render(looping, [USER]) == USER["content"]


def test_a_refusal_says_the_templates_own_words(templates):
    with pytest.raises(TemplateRefused, match="refuses these messages: no critics"):
        templates.render(tokenizer(HONEST), [{"role": "critic", "content": "x"}])
