"""Chat templates in processes of their own: the text of transformers, and an end to those that have none."""

import time

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from serving.model.chat_templates import ChatTemplates, TemplateRefused

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
        (GROWS, "fails on these messages|ended its process"),
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


def test_a_refusal_says_the_templates_own_words(templates):
    with pytest.raises(TemplateRefused, match="refuses these messages: no critics"):
        templates.render(tokenizer(HONEST), [{"role": "critic", "content": "x"}])
