"""Families of models: which causal architectures of transformers can be probed and served, by a tiny one of each.

    python -m tests.families        # prints the table of serving/README.md; takes some minutes

Each network is drawn at random from a configuration of the family's own class with every size made small, and goes
through the loading that everything else uses, then into the slot engine.
"""

import logging
import re
import sys
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from registry.checkpoints import INIT, INIT_STEP, Checkpoint
from registry.errors import TrustTraceError
from serving.engine.slots.model_runner import ModelRunner
from serving.model.language_model import load

FAMILIES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
MANUAL = Path(__file__).parents[1] / "serving" / "README.md"
VOCABULARY = 64
MOST_PARAMETERS = 4_000_000
LAYERS = 4
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), LAYERS),
    **dict.fromkeys(("decoder_layers", "encoder_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads",), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "decoder_ffn_dim", "encoder_ffn_dim", "d_ff"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"), 24),
    **dict.fromkeys(("intermediate_size_mlp", "ffn_hidden_size", "moe_ffn_hidden_size"), 48),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "rotary_dim", "kv_channels"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "lru_width", "attention_hidden_size", "d_kv"), 32),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "mamba_d_head", "mamba_head_dim"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 8),
    **dict.fromkeys(("mamba_d_ssm",), 64),
    **dict.fromkeys(("mamba_n_groups", "n_groups"), 1),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size", "conv_dim"), 8),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size", "block_size"), 8),
    **dict.fromkeys(("hidden_size_per_layer_input", "index_head_dim", "laurel_rank", "altup_num_inputs"), 8),
    **dict.fromkeys(("index_n_heads", "index_topk"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "sliding_window"), 64),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    "use_mamba_kernels": False,
    "first_k_dense_replace": 1,
    "initializer_range": 0.3,
    "tie_word_embeddings": True,
}
"""Every size by the names that configurations have for it; a family takes those that it knows."""
LATENT = (
    "axk1",
    "axk2",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "dots3_note_text",
    "glm4_moe_lite",
    "glm_moe_dsa",
)
OWN_SIZES: dict[str, dict[str, Any]] = {
    **{family: {"num_key_value_heads": 4} for family in (*LATENT, "minicpm3", "youtu")},
    "dbrx": {"tie_word_embeddings": False},
    "gpt_neo": {"attention_types": [[["global", "local"], LAYERS // 2]]},
    "mamba2": {"num_heads": 8},
    "zaya": {"num_experts_per_tok": 1},
}
"""Sizes that must agree within a family."""
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "decoder_start_token_id")


@dataclass(frozen=True)
class Outcome:
    """What becomes of one family: ``None`` where no small network could be made."""

    probed: bool | None
    served: bool | None = None
    reason: str = ""

    @property
    def cells(self) -> tuple[str, str, str]:
        return _cell(self.probed), _cell(self.served), self.reason


NOT_TRIED = Outcome(None, reason="no small network could be made")


def outcome_of(family: str, directory: Path) -> Outcome:
    try:
        config = small_config(family)
        with torch.device("meta"):  # of a copy, since networks of decoders alone change what they are given
            n = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(deepcopy(config)).parameters())
        if n <= MOST_PARAMETERS:
            _run_plainly(config)
    except Exception:
        return NOT_TRIED
    if n > MOST_PARAMETERS:
        return NOT_TRIED
    home = directory / family
    config.save_pretrained(home)
    words().save_pretrained(home)
    try:
        model = load(Checkpoint("small", str(home), INIT, INIT_STEP), precision="float32", device="cpu")
    except TrustTraceError as error:
        return Outcome(False, False, in_short(str(error)))
    try:
        ModelRunner(model, 2).close()
    except TrustTraceError as error:
        return Outcome(True, False, in_short(str(error)))
    except Exception as error:
        return Outcome(True, False, f"{type(error).__name__} in slots")
    return Outcome(True, True)


def _run_plainly(config: Any) -> None:
    """Raises what the family's own code does with sizes that do not agree."""
    network = AutoModelForCausalLM.from_config(deepcopy(config)).eval()
    with torch.inference_mode():
        network(input_ids=torch.arange(12)[None], use_cache=False)


def small_config(family: str) -> Any:
    return _small(CONFIG_MAPPING[family], OWN_SIZES.get(family, {}))


def _small(kind: Any, own: Mapping[str, Any]) -> Any:
    default = kind()
    known = {*default.to_dict(), *default.attribute_map}
    given = {name: size for name, size in SIZES.items() if name in known} | own
    given |= {name: 0 for name in SPECIAL if name in known}
    for name, part in kind.sub_configs.items():
        if name in known and getattr(default, name, None) is not None and part is not kind:
            part = type(getattr(default, name))
            given[name] = _small(part, OWN_SIZES.get(part.model_type, {})).to_dict()
    return kind(**given)


def words() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel({f"w{number}": number for number in range(VOCABULARY)}, unk_token="w0"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0")


REASONS = (
    (r"encoder-decoder", "encoder-decoder"),
    (r"looks ahead", "looks ahead: no causal model"),
    (r"no causal language model", "no causal language model"),
    (r"shape \[", "several streams of hidden states"),
    (r"module lists", "blocks in no one list"),
    (r"layers of type (.+?);", "layers of type {0}"),
    (r"attention of their own", "attention of its own"),
    (r"logits differ", "other logits in slots"),
    (r"layers of \S+ are run", "not all blocks are run on a text"),
    (r"does not read a text \((\w+)", "does not read a text alone ({0})"),
    (r"cannot be run in slots", "cannot be run in slots"),
)


def in_short(message: str) -> str:
    """A refusal in a few words, without numbers and paths."""
    for pattern, words in REASONS:
        if match := re.search(pattern, message):
            return words.format(*match.groups())
    return message.rpartition(";")[0] or message


def outcomes(families: Iterable[str]) -> dict[str, Outcome]:
    logging.disable(logging.WARNING)
    found = {}
    try:
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for family in families:
                found[family] = outcome_of(family, Path(scratch))
                print(family, found[family], file=sys.stderr, flush=True)
    finally:
        logging.disable(logging.NOTSET)
    return found


def table(found: Mapping[str, Outcome]) -> str:
    """Markdown: a row per outcome with its families, those that can do most first."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for family, outcome in sorted(found.items()):
        groups.setdefault(outcome.cells, []).append(family)
    order = {"yes": 0, "no": 1, "not tried": 2}
    rows = sorted(groups.items(), key=lambda row: (order[row[0][0]], order[row[0][1]], -len(row[1]), row[0][2]))
    lines = ["| probe | serve | why not | families |", "|---|---|---|---|"]
    lines += [
        f"| {probed} | {served} | {reason} | {', '.join(f'`{family}`' for family in families)} |"
        for (probed, served, reason), families in rows
    ]
    return "\n".join(lines)


def _cell(can: bool | None) -> str:
    return "not tried" if can is None else "yes" if can else "no"


def documented() -> dict[str, tuple[str, str, str]]:
    """What serving/README.md says of each family."""
    rows = re.findall(r"^\| (yes|no|not tried) \| (yes|no|not tried) \| (.*?) ?\| (`.*`) \|$", MANUAL.read_text(), re.M)
    return {family: (*said, reason) for *said, reason, families in rows for family in re.findall(r"`(.+?)`", families)}


if __name__ == "__main__":
    print(table(outcomes(sys.argv[1:] or FAMILIES)))
