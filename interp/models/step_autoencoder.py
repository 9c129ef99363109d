"""Step embeddings: an autoencoder from the text of a step to one vector and back.

It plays the part of the sentence encoder in large concept models (arXiv 2412.08821, section 2.1).
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
    """Two-layer perceptrons that encode a step as a vector with mean 0 and variance 1, and decode it.

    Args:
        n_tokens: Size of the tokenizer's vocabulary.
        pad_id: Token id that pads shorter texts.
        longest: Most tokens of a step.
        d_concept: Width of a step's vector.
        d_word: Width of a token's embedding.
        hidden: Width of the hidden layers.
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
        """Return the vector of each step."""
        return self.reading(self.words(ids).flatten(-2))

    def decode(self, concepts: Float[Tensor, "*batch d_concept"]) -> Float[Tensor, "*batch longest n_tokens"]:
        """Return the logits of each token of the text."""
        return self.writing(concepts).unflatten(-1, (self.longest, self.d_word)) @ self.words.weight.T

    def ids_of(self, texts: Sequence[str], tokenizer: Any) -> Int[Tensor, "text longest"]:
        """Return padded token ids. Raises `UsageError` on a text that is empty, too long or has unknown words."""
        rows = []
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            if not 0 < len(ids) <= self.longest or tokenizer.unk_token_id in ids:
                raise UsageError(
                    f"expected a step of 1 to {self.longest} words that the tokenizer knows, got {text!r}."
                )
            rows.append([*ids, *[self.pad_id] * (self.longest - len(ids))])
        return torch.tensor(rows, dtype=torch.long).reshape(-1, self.longest)

    @torch.no_grad()
    def texts(self, concepts: Float[Tensor, "text d_concept"], tokenizer: Any) -> list[str]:
        """Return the likeliest text of each vector, up to the first padding token."""
        out = []
        for row in self.decode(concepts).argmax(-1).tolist():
            end = row.index(self.pad_id) if self.pad_id in row else len(row)
            out.append(" ".join(tokenizer.convert_ids_to_tokens(row[:end])))
        return out

    def save(self, folder: Path) -> None:
        """Write weights (float16) and shape to a folder."""
        from safetensors.torch import save

        state = {name: value.detach().half().contiguous() for name, value in self.state_dict().items()}
        commit(folder / WEIGHTS, save(state))
        commit(folder / DESCRIPTION, (json.dumps(self.shape, indent=2) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> StepAutoencoder:
        """Read the autoencoder from a model's folder. Raises `StoreError` when it is missing or damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            autoencoder = cls(**json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))
            autoencoder.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0]
            raise StoreError(
                f"expected a step autoencoder ({WEIGHTS} and {DESCRIPTION}) in {folder}: {reason}"
            ) from None
        return autoencoder.requires_grad_(False).eval()
