"""Word-level tokenizers of the organisms: each word of a task's vocabulary is one token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BEGIN, END, EOS, PAUSE, LATENT, UNKNOWN = "<pad>", "<bot>", "<eot>", "<eos>", "<pause>", "<latent>", "<unk>"
SPECIAL_TOKENS = (PAD, BEGIN, END, EOS, PAUSE, LATENT, UNKNOWN)


def word_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer that splits on white space and pads on the left.

    Args:
        words: Its vocabulary, besides `SPECIAL_TOKENS`.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: k for k, word in enumerate([*SPECIAL_TOKENS, *dict.fromkeys(words)])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        additional_special_tokens=[BEGIN, END, PAUSE, LATENT],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
