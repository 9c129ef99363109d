"""From a question to the tokens that the model reads: template, chat form, beginning-of-sequence token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interp.errors import UsageError

if TYPE_CHECKING:
    from interp.reasoners.config import ReasonerConfig

CHAT = "chat"


def prompt_ids(tokenizer: Any, config: ReasonerConfig, question: str) -> list[int]:
    """The token ids of a prompt. A beginning-of-sequence token that the template has written is not doubled."""
    if config.prompt == CHAT:
        messages = [{"role": "user", "content": question}]
        if config.system is not None:
            messages = [{"role": "system", "content": config.system}, *messages]
        try:
            text = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False, **config.chat_options
            )
        except Exception as error:  # a template is a program of the model's makers: it may raise anything
            raise UsageError(f"the chat template cannot be applied ({str(error).splitlines()[0]}).") from None
    else:
        text = config.prompt.replace("{question}", question)
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    begins = tokenizer.bos_token_id
    return [begins, *ids] if config.bos and begins is not None and ids[:1] != [begins] else ids


def unknown_id(tokenizer: Any) -> int | None:
    """The token that stands for unknown words, or None where that token has another task as well, as in GPT-2."""
    found = tokenizer.unk_token_id
    others = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return None if found in others else found
