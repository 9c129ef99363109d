"""How a model without a `reasoner.json` thinks, from its tokenizer, its chat template and its configuration."""

from __future__ import annotations

from typing import Any

from interp.errors import UsageError
from interp.models.markers import COCONUT, chat_template, thinking_markers
from interp.models.report import LoadReport
from interp.reasoners.config import CHAT

# Room for a model whose reasoning is not an organism's; `--max-thought-tokens` and `--max-answer-tokens` say otherwise.
THOUGHT_TOKENS, ANSWER_TOKENS, DIRECT_TOKENS = 2048, 512, 1024


def recognised(tokenizer: Any, model: Any, loaded: LoadReport) -> dict[str, Any]:
    """The fields of a `ReasonerConfig`; what was found, assumed and not found goes to `loaded`."""
    markers, template = thinking_markers(tokenizer), chat_template(tokenizer)
    vocabulary = tokenizer.get_vocab()
    found: dict[str, Any] = {**_ends(tokenizer, model, loaded), **_beginning(tokenizer, loaded)}
    if template:
        found["prompt"] = CHAT
        loaded.add("prompt", "the model's chat template", "read")
    else:
        loaded.add(
            "prompt", "the question as it is", "assumed", "no chat template; reasoner={'prompt': 'Q: {question}\\nA:'}"
        )
    if all(token in vocabulary for token in COCONUT):
        found |= {"kind": "continuous", "begin": COCONUT[0], "end": COCONUT[1], "latent": COCONUT[2], "thoughts": 6}
        found |= {"max_answer_tokens": 64, "prompt": found.get("prompt", "{question}\n")}
        loaded.add("kind", "continuous", "recognised", f"the vocabulary has Coconut's {', '.join(COCONUT)}")
        loaded.add("thoughts", 6, "assumed", "nothing says how many; reasoner={'thoughts': N}")
    elif markers:
        found |= {"kind": "text", "begin": markers.begin, "end": markers.end, "steps": "text"}
        found |= {"max_thought_tokens": THOUGHT_TOKENS, "max_answer_tokens": ANSWER_TOKENS}
        loaded.add("kind", "text", "recognised", f"markers {markers.begin} … {markers.end} as in {markers.seen_in}")
    else:
        found |= {"kind": "direct", "begin": None, "end": None, "max_answer_tokens": DIRECT_TOKENS}
        loaded.add(
            "kind",
            "direct",
            "unknown",
            "no thinking markers are known for it, so all that it writes counts as its answer; if it reasons before one, "
            "say where that ends: reasoner={'kind': 'text', 'begin': None, 'end': 'Answer:'}",
        )
    return found


def completed(given: dict[str, Any], tokenizer: Any, model: Any, loaded: LoadReport) -> dict[str, Any]:
    """A config given by hand for a model without `reasoner.json`, with what it leaves unsaid taken from the model."""
    quiet = LoadReport()
    found = recognised(tokenizer, model, quiet)
    kind = given.get("kind", found["kind"])
    if kind != found["kind"]:
        found = {key: found[key] for key in ("eos", "stops", "bos", "prompt") if key in found}
        if kind == "text":
            found |= {"steps": "text", "max_thought_tokens": THOUGHT_TOKENS, "max_answer_tokens": ANSWER_TOKENS}
    for name in given:
        loaded.add(name, given[name], "given")
    loaded.findings += [
        each for each in quiet.findings if each.what not in given and (each.what != "kind" or "kind" not in given)
    ]
    return {**found, **given}


def _ends(tokenizer: Any, model: Any, loaded: LoadReport) -> dict[str, Any]:
    """The tokens that end an answer: the tokenizer's, and those of the generation configuration."""
    config: Any = getattr(model, "generation_config", None)
    ids = getattr(config, "eos_token_id", None)
    ids = [] if ids is None else ids if isinstance(ids, list) else [ids]
    own = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    names = [tokenizer.convert_ids_to_tokens(i) for i in dict.fromkeys([*own, *ids])]
    names = [name for name in names if name is not None]
    if not names:
        loaded.add("end of text", "none", "unknown", "answers run to their longest; reasoner={'eos': TOKEN}")
        return {"eos": ""}
    loaded.add("end of text", ", ".join(names), "read")
    if getattr(config, "temperature", None) and getattr(config, "do_sample", False):
        hint = f"temperature {config.temperature}" + (f", top-p {config.top_p}" if config.top_p else "")
        loaded.add("sampling", "greedy", "chosen", f"its makers sample at {hint}; --temperature, --top-p")
    return {"eos": names[0], "stops": tuple(names[1:])}


def _beginning(tokenizer: Any, loaded: LoadReport) -> dict[str, Any]:
    """Whether a beginning-of-sequence token comes first: where the tokenizer puts one itself."""
    begins = tokenizer.bos_token_id
    try:
        puts = begins is not None and list(tokenizer("a")["input_ids"][:1]) == [begins]
    except (ValueError, TypeError) as error:
        raise UsageError(f"the tokenizer cannot encode a letter ({error}).") from None
    value = f"{tokenizer.bos_token} comes first" if puts else "none is put before a prompt"
    loaded.add("beginning of text", value, "read")
    sink = "the beginning-of-text token" if puts else "the first token of a prompt"
    loaded.add(
        "attention sink", sink, "chosen", "prompt positions but the last are left out of captures unless asked for"
    )
    return {"bos": puts}
