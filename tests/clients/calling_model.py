"""Calling model: a network that calls a tool whenever it may, whatever it is asked.

Clients' own tests of tools are about the protocol, and want a call with given arguments; which call it is would be a
model's judgement. Each token here has a preferred follower, and some are preferred where it is not allowed.
"""

from pathlib import Path

OPENING, CLOSING = "<tool_call>", "</tool_call>"
NAME = "你こ"
"""The content of every text that it writes into a call: a character of each of the languages that tests ask for."""
PREFERRED = {'"': 9.0, "}": 8.0, "]": 7.0, ",": 6.0, "3": 5.0}
"""Texts and objects end as soon as they may, and numbers after one digit."""
FOLLOWERS = {"!": OPENING, CLOSING: "<end>", "\n": CLOSING, '"': NAME, ":": "O", "O": "K", "K": "<end>"}
TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>\n{{ c.function | tojson }}\n</tool_call>{% endfor %}{% endfor %}"
    "{{ '!' if tools else ':' }}"
)
WINDOW = 16_384
"""Tokens: descriptions of tools are long where each byte is one."""


def save_calling_model(chat_model: Path, directory: Path) -> Path:
    """A network of the same size and bytes as the one in ``chat_model``; returns its series' directory.

    Nothing of a prompt but its last token counts, since no layer adds anything.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (source,) = chat_model.glob("step_*")
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    tokenizer.add_tokens([OPENING, CLOSING, NAME])
    tokenizer.chat_template = TEMPLATE
    network = AutoModelForCausalLM.from_pretrained(source, trust_remote_code=False)
    network.resize_token_embeddings(len(tokenizer))
    network.config.max_position_embeddings = WINDOW
    embeddings, head = network.get_input_embeddings().weight, network.get_output_embeddings().weight

    def place(text: str) -> int:
        (token,) = tokenizer(text)["input_ids"]
        return int(token)

    with torch.no_grad():
        for layer in network.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embeddings.mul_(0.01)
        head.mul_(0.01)
        embeddings[:, 0] = 1.0
        for text, preference in PREFERRED.items():
            head[place(text), 0] = preference
        for channel, (text, follower) in enumerate(FOLLOWERS.items(), start=1):
            embeddings[place(text), channel], head[place(follower), channel] = 4.0, 30.0
    network.save_pretrained(directory / "step_000010")
    tokenizer.save_pretrained(directory / "step_000010")
    return directory
