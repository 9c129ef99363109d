"""Recognising how a model without a `reasoner.json` thinks, from its tokenizer, chat template and configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from interp.errors import UsageError
from interp.models.markers import COCONUT_TOKENS, chat_template, template_writes, thinking_markers
from interp.models.report import LoadReport
from interp.reasoners.config import CHAT

# Limits for models that are not organisms; `--max-thought-tokens` and `--max-answer-tokens` change them.
THOUGHT_TOKENS, ANSWER_TOKENS, DIRECT_TOKENS = 2048, 512, 1024


def recognise(
    tokenizer: Any, model: Any, report: LoadReport, chat_options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the fields of a `ReasonerConfig`.

    Args:
        tokenizer: The model's tokenizer.
        model: The model, not yet wrapped.
        report: Receives what was recognised, assumed and not determined.
        chat_options: What the chat template is applied with.
    """
    markers, template = thinking_markers(tokenizer, chat_options), chat_template(tokenizer)
    vocabulary = tokenizer.get_vocab()
    recognised: dict[str, Any] = {**_end_tokens(tokenizer, model, report), **_begin_token(tokenizer, report)}
    if template:
        recognised["prompt"] = CHAT
        report.add("prompt", "the model's chat template", "read")
    else:
        report.add(
            "prompt", "the question itself", "assumed", "no chat template; reasoner={'prompt': 'Q: {question}\\nA:'}"
        )
    if all(token in vocabulary for token in COCONUT_TOKENS):
        recognised |= {
            "kind": "continuous",
            "begin": COCONUT_TOKENS[0],
            "end": COCONUT_TOKENS[1],
            "latent": COCONUT_TOKENS[2],
            "thoughts": 6,
        }
        recognised |= {"max_answer_tokens": 64, "prompt": recognised.get("prompt", "{question}\n")}
        report.add("kind", "continuous", "recognised", f"the vocabulary has Coconut's {', '.join(COCONUT_TOKENS)}")
        report.add("thoughts", 6, "assumed", "nothing says how many; " + given_as({"thoughts": 6}))
    elif markers:
        recognised |= {"kind": "text", "begin": markers.begin, "end": markers.end, "steps": "text"}
        recognised |= _budgets(model, report)
        note = f"markers {markers.begin} … {markers.end} as in {markers.seen_in}"
        if template and not template_writes(tokenizer, markers):
            note += (
                "; they are tokens, but the chat template names neither: if the model answers without a thought, "
                + given_as({"kind": "direct", "begin": None, "end": None})
            )
            report.add("kind", "text", "assumed", note)
        else:
            report.add("kind", "text", "recognised", note)
    else:
        recognised |= {"kind": "direct", "begin": None, "end": None, "max_answer_tokens": DIRECT_TOKENS}
        report.add(
            "kind",
            "direct",
            "unknown",
            "no thinking markers are known for it, so all that it writes counts as its answer; if it reasons first, "
            "name the marker that ends the reasoning: " + given_as({"kind": "text", "begin": None, "end": "Answer:"}),
        )
    return recognised


def given_as(fields: dict[str, Any]) -> str:
    """Return how fields of `ReasonerConfig` are given, on the command line and in Python."""
    return f"--reasoner '{json.dumps(fields)}' (in Python, reasoner={fields})"


def complete_fields(fields: dict[str, Any], tokenizer: Any, model: Any, report: LoadReport) -> dict[str, Any]:
    """Return the fields of a config that the user gives in part; the others are recognised from the model.

    Args:
        fields: The given fields of `ReasonerConfig`.
        tokenizer: The model's tokenizer.
        model: The model, not yet wrapped.
        report: Receives the given fields, and what was recognised of the others.
    """
    recognised_report = LoadReport()
    options = fields.get("chat_options")
    recognised = recognise(tokenizer, model, recognised_report, options if isinstance(options, Mapping) else None)
    kind = fields.get("kind", recognised["kind"])
    if kind != recognised["kind"]:
        recognised = {key: recognised[key] for key in ("eos", "stops", "bos", "prompt") if key in recognised}
        if kind == "text":
            recognised |= {"steps": "text", **_budgets(model, recognised_report)}
    for name in fields:
        report.add(name, fields[name], "given")
    report.findings += [finding for finding in recognised_report.findings if finding.what not in fields]
    return {**recognised, **fields}


def _budgets(model: Any, report: LoadReport) -> dict[str, int]:
    """Return the limits of thought and answer of a text reasoner.

    The room for the answer is kept free while the model thinks, so it takes at most a quarter of the positions.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    answer = ANSWER_TOKENS if positions is None else max(1, min(ANSWER_TOKENS, positions // 4))
    if answer < ANSWER_TOKENS:
        note = f"a quarter of the model's {positions} positions, so that thoughts have room; --max-answer-tokens"
        report.add("max_answer_tokens", answer, "assumed", note)
    return {"max_thought_tokens": THOUGHT_TOKENS, "max_answer_tokens": answer}


def _end_tokens(tokenizer: Any, model: Any, report: LoadReport) -> dict[str, Any]:
    """Return the tokens that end an answer: the tokenizer's, and those of the generation configuration."""
    config: Any = getattr(model, "generation_config", None)
    ids = getattr(config, "eos_token_id", None)
    ids = [] if ids is None else ids if isinstance(ids, list) else [ids]
    eos_ids = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    all_names = {i: tokenizer.convert_ids_to_tokens(i) for i in dict.fromkeys([*eos_ids, *ids])}
    names = [name for name in all_names.values() if name is not None]
    lost = [str(i) for i, name in all_names.items() if name is None]
    note = f"the tokenizer has no token {', '.join(lost)}, which the generation configuration names" if lost else ""
    if not names:
        report.add("end of text", "none", "unknown", "answers run to the limit of tokens; reasoner={'eos': TOKEN}")
        return {"eos": ""}
    report.add("end of text", ", ".join(names), "read", note)
    if getattr(config, "temperature", None) and getattr(config, "do_sample", False):
        hint = f"temperature {config.temperature}" + (f", top-p {config.top_p}" if config.top_p else "")
        report.add("sampling", "greedy", "chosen", f"its makers sample at {hint}; --temperature, --top-p")
    return {"eos": names[0], "stops": tuple(names[1:])}


def _begin_token(tokenizer: Any, report: LoadReport) -> dict[str, Any]:
    """Return whether prompts start with a beginning-of-text token, as the tokenizer does by itself."""
    bos_id = tokenizer.bos_token_id
    try:
        adds_bos = bos_id is not None and list(tokenizer("a")["input_ids"][:1]) == [bos_id]
    except (ValueError, TypeError) as error:
        raise UsageError(f"the tokenizer cannot encode a letter ({error}).") from None
    value = f"{tokenizer.bos_token} comes first" if adds_bos else "none is put before a prompt"
    report.add("beginning of text", value, "read")
    sink = "the beginning-of-text token" if adds_bos else "the first token of a prompt"
    report.add(
        "attention sink",
        sink,
        "chosen",
        "captures leave out prompt positions except the last, unless --channels includes them",
    )
    return {"bos": adds_bos}
