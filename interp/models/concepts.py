"""Step embeddings: an autoencoder that makes one vector of a step's text, and the text again of the vector.

It takes the place that a sentence encoder has in large concept models (arXiv 2412.08821, section 2.1): what
reasons over steps never sees their words, and what reads them needs nothing but the vector.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import StoreError, UsageError
from interp.runtime.files import commit

WEIGHTS, DESCRIPTION = "autoencoder.safetensors", "autoencoder.json"


class StepAutoencoder(nn.Module):
    """Texts of up to `longest` tokens to vectors of `d_concept` numbers with mean 0 and variance 1, and back.

    Two-layer perceptrons over all words of a step at once; token ids are those of the reasoner's tokenizer and
    `pad_id` fills up shorter texts.
    """

    def __init__(
        self, n_tokens: int, pad_id: int, longest: int, d_concept: int = 128, d_word: int = 64, hidden: int = 512
    ) -> None:
        super().__init__()
        self.shape = {
            "n_tokens": n_tokens,
            "pad_id": pad_id,
            "longest": longest,
            "d_concept": d_concept,
            "d_word": d_word,
            "hidden": hidden,
        }
        self.pad_id, self.longest, self.d_word = pad_id, longest, d_word
        self.words = nn.Embedding(n_tokens, d_word)
        self.reading = nn.Sequential(
            nn.Linear(longest * d_word, hidden),
            nn.ReLU(),
            nn.Linear(hidden, d_concept),
            nn.LayerNorm(d_concept, elementwise_affine=False),
        )
        self.writing = nn.Sequential(nn.Linear(d_concept, hidden), nn.ReLU(), nn.Linear(hidden, longest * d_word))

    def encode(self, ids: Int[Tensor, "*batch longest"]) -> Float[Tensor, "*batch d_concept"]:
        return self.reading(self.words(ids).flatten(-2))

    def decode(self, concepts: Float[Tensor, "*batch d_concept"]) -> Float[Tensor, "*batch longest n_tokens"]:
        """Logits of each word of the text."""
        return self.writing(concepts).unflatten(-1, (self.longest, self.d_word)) @ self.words.weight.T

    def ids_of(self, texts: Sequence[str], tokenizer: Any) -> Int[Tensor, "text longest"]:
        """Texts as padded token ids. Raises `UsageError` on a text that is too long or has unknown words."""
        rows = []
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            if not 0 < len(ids) <= self.longest or tokenizer.unk_token_id in ids:
                raise UsageError(
                    f"a step of 1 to {self.longest} words that the tokenizer knows was expected, but {text!r} came."
                )
            rows.append([*ids, *[self.pad_id] * (self.longest - len(ids))])
        return torch.tensor(rows, dtype=torch.long).reshape(-1, self.longest)

    @torch.no_grad()
    def texts(self, concepts: Float[Tensor, "text d_concept"], tokenizer: Any) -> list[str]:
        """The likeliest text of each vector, up to its first padding."""
        out = []
        for row in self.decode(concepts).argmax(-1).tolist():
            end = row.index(self.pad_id) if self.pad_id in row else len(row)
            out.append(" ".join(tokenizer.convert_ids_to_tokens(row[:end])))
        return out

    def save(self, folder: Path) -> None:
        from safetensors.torch import save

        state = {name: value.detach().half().contiguous() for name, value in self.state_dict().items()}
        commit(folder / WEIGHTS, save(state))
        commit(folder / DESCRIPTION, (json.dumps(self.shape, indent=2) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> StepAutoencoder:
        """The autoencoder beside a model's weights. Raises `StoreError` when it is missing or damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            made = cls(**json.loads((folder / DESCRIPTION).read_text()))
            made.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            first = str(error).strip().splitlines()[0]
            raise StoreError(f"{folder} should hold a step autoencoder, {WEIGHTS} and {DESCRIPTION}: {first}") from None
        return made.requires_grad_(False).eval()
