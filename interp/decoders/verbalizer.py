"""The verbalizer: a small language model that reads a question and one latent, and writes the text of the step.

This is Heima's interpreter (arXiv 2501.19201, section 3). It is prompted with the question and a placeholder, whose
embedding is overwritten by the reasoner's last hidden state, and trained to write the step's text. The state is taken at
the thinking token, or one position earlier, where the token is predicted, as in the paper's code (`read_at`). The paper
shows no interpreter without the latent and none with another problem's. Both are modes here, because a question alone may
give a step away.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict, Unpack, get_args

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.decoders.base import STEP_TEXT, DecoderTraits, RankedTexts
from interp.decoders.low_rank import RANK
from interp.decoders.step_rows import rows_before
from interp.decoders.writer import WriterOptions, WriterVocabulary, ranked_candidates
from interp.decoders.writer_decoder import WriterDecoder
from interp.errors import StoreError, UsageError, checked_count, unknown
from interp.models.address import Address
from interp.runtime.files import commit
from interp.runtime.progress import Progress
from interp.statistics.donors import other_problem

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

Mode = Literal["latent", "question", "shuffled"]
ReadAt = Literal["token", "before"]
MODES: tuple[Mode, ...] = get_args(Mode)
DESCRIPTION, WEIGHTS = "verbalizer.json", "model.safetensors"
SCHEMA_VERSION = 1


class VerbalizerOptions(WriterOptions, total=False):
    """Options of `Verbalizer`."""

    mode: Mode
    read_at: ReadAt
    seed: int
    progress: Progress | None
    rank: int


class _Adapters(TypedDict, total=False):
    reasoner: Reasoner
    rank: int


class Verbalizer(WriterDecoder):
    """Writes the text of a row from its question, the number of its step, and its latent.

    Texts are split at white space. A word that training never showed is unknown in a question and cannot be written.

    Args:
        mode: What it is given: `latent`, the row's own; `question`, none; `shuffled`, that of another problem at the
            same step, in training and in use.
        read_at: The position of the latent: the row's own (`token`) or the one `before` it.
        d_model: Width of the writer.
        n_layers: Layers of the writer.
        n_heads: Attention heads of the writer.
        updates: Number of updates.
        batch_size: Rows of an update.
        learning_rate: Largest learning rate.
        seed: Seed of the initial weights, of the batches and of shuffled latents.
        progress: Called with (updates made, updates).
        reasoner: With it the writer is that model itself, frozen, with low-rank adapters
            (`interp.decoders.low_rank`), and the three sizes are not used.
        rank: Rank of the adapters.

    References:
        Heima, arXiv 2501.19201, section 3.
    """

    name = noun = "verbalizer"
    how_to_fit = "call fit first, or load a saved one"
    rows_at_once = 256
    # Heima reads the last hidden state.
    traits: ClassVar[DecoderTraits] = DecoderTraits(
        output=STEP_TEXT,
        addresses=("ln_final.hook_out",),
        follows_probe=True,
        needs_step=True,
        has_question_only=True,
    )

    def __init__(
        self,
        *,
        mode: Mode = "latent",
        read_at: ReadAt = "token",
        d_model: int = 128,
        n_layers: int = 2,
        n_heads: int = 4,
        updates: int = 1000,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        seed: int = 0,
        progress: Progress | None = None,
        reasoner: Reasoner | None = None,
        rank: int = RANK,
    ) -> None:
        if mode not in MODES:
            raise unknown("mode of the verbalizer", mode, MODES)
        if read_at not in get_args(ReadAt):
            raise unknown("position to read at", read_at, get_args(ReadAt))
        self.mode, self.read_at = mode, read_at
        super().__init__(
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            updates=updates,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            progress=progress,
            reasoner=reasoner,
            rank=rank,
        )

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> Verbalizer:
        """Train on rows to write `targets`, one text for each: a step's text, or only its value.

        Raises:
            UsageError: There are no rows, or a row has no text.
        """
        texts = [str(target) for target in targets]
        if not len(rows) or len(rows) != len(texts) or not all(text.strip() for text in texts):
            raise UsageError(
                f"expected rows that each have a text to train the verbalizer on, got {len(rows)} rows with "
                f"{sum(bool(text.strip()) for text in texts)} texts; leave out rows without one."
            )
        self._remember_source(store, address)
        self._train(_prompts(store, rows), self._latents(store, rows), texts, standardise=True)
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> RankedTexts:
        """Return the `top_k` likeliest texts of each row by beam search, with their probabilities.

        A text of probability 0 is returned as "".

        Raises:
            StoreError: The store is of another model.
            UsageError: The verbalizer is not fitted, or was fitted at another address.
        """
        self._check(store, address)
        return ranked_candidates(self._texts(store, rows, checked_count("top_k", top_k)), top_k)

    def write(
        self, store: ActivationSource, rows: pd.DataFrame, *, latents_of: pd.DataFrame | None = None
    ) -> list[str]:
        """Return the greedily written text of each row.

        Args:
            store: The activations.
            rows: Rows whose questions and steps are returned.
            latents_of: Rows whose latents are read in their place; the same rows where None.
        """
        self._check(store, None)
        return [row[0] for row, _ in self._texts(store, rows, 1, latents_of)]

    def question_only(self, store: ActivationSource, table: pd.DataFrame) -> np.ndarray:
        """Return what a verbalizer of the same size writes that sees the question and no latent.

        It is fitted on the training rows of `table`.

        Args:
            store: The store that was read.
            table: Read-outs of one method, with columns trace, position, step, split and gold.
        """
        index = store.index.set_index(["trace", "position"], drop=False)
        keys = list(zip(table["trace"], table["position"], strict=True))
        rows = index.loc[keys].assign(step=table["step"].to_numpy())
        train = (table["split"] == "train").to_numpy()
        adapters: _Adapters = {} if self.reasoner is None else {"reasoner": self.reasoner, "rank": self.rank}
        twin = type(self)(
            mode="question",
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            updates=self.updates,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            **adapters,
        )
        twin.fit(store, self.address_, rows[train], table["gold"].to_numpy()[train])
        return np.array(twin.write(store, rows), dtype=object)

    def save(self, folder: Path | str) -> None:
        """Write the fitted verbalizer as safetensors and JSON."""
        writer = self._fitted()
        description = {
            "schema_version": SCHEMA_VERSION,
            "mode": self.mode,
            "read_at": self.read_at,
            "d_model": self.d_model,
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
            "seed": self.seed,
            "address": self.address_.name,
            "weights": self.weights_,
            "d_latent": len(writer.mean),
            "positions": writer.positions,
            "longest": self.longest_,
            "heard": writer.words.prompt_words,
            "spoken": writer.words.text_words,
            "rank": None if self.reasoner is None else self.rank,
        }
        commit(Path(folder) / WEIGHTS, save(writer.saved_tensors()))
        commit(Path(folder) / DESCRIPTION, (json.dumps(description, indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: Path | str, reasoner: Reasoner | None = None) -> Verbalizer:
        """Return a verbalizer that was saved.

        Args:
            folder: Where it was saved.
            reasoner: The model that it adapts, where it is made of adapters.

        Raises:
            StoreError: The folder holds none, a damaged one, or adapters of another model.
        """
        folder = Path(folder)
        if not (folder / DESCRIPTION).exists():
            raise StoreError(f"no verbalizer in {folder}: it has no {DESCRIPTION}. Fit one and save it there.")
        try:
            raw: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            shape = {key: raw[key] for key in ("mode", "read_at", "d_model", "n_layers", "n_heads", "seed")}
            adapters = raw.get("rank") is not None
            model: _Adapters = {"reasoner": reasoner, "rank": raw["rank"]} if adapters and reasoner is not None else {}
            verbalizer = Verbalizer(**shape, **model)
            verbalizer.address_, verbalizer.weights_ = Address(raw["address"]), raw["weights"]
            verbalizer.longest_ = raw["longest"]
            if adapters and (reasoner is None or reasoner.weights != verbalizer.weights_):
                raise StoreError(
                    f"expected the reasoner that the adapters in {folder} were fitted to, got "
                    f"{'none' if reasoner is None else reasoner.name}; pass reasoner=."
                )
            words = WriterVocabulary(raw["heard"], raw["spoken"])
            writer = verbalizer._make(words, raw["d_latent"] or None, raw["positions"])
            saved = load((folder / WEIGHTS).read_bytes())
            gaps = writer.load_state_dict(saved, strict=not adapters)  # adapters come without the model beneath
            lacking = [name for name in writer.saved_tensors() if name not in saved]
            if lacking or gaps.unexpected_keys:
                raise ValueError(f"its tensors are not the writer's: {', '.join(lacking or gaps.unexpected_keys)}")
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            first = str(error).strip().splitlines()[0]
            raise StoreError(f"the verbalizer in {folder} cannot be read ({first}). Fit and save it again.") from None
        verbalizer.writer_ = writer.eval()
        return verbalizer

    def _check(self, store: ActivationSource, address: Address | None) -> None:
        self._fitted()
        if address is not None:
            self._check_address(address)
        if self.mode != "question":
            self._check_model(store)

    def _latents(self, store: ActivationSource, rows: pd.DataFrame) -> Tensor | None:
        if self.mode == "question":
            return None
        latent_rows = rows if self.read_at == "token" else rows_before(store, rows)
        if self.mode == "shuffled":
            groups = structures(store, rows)
            donors = other_problem(rows["step"].to_numpy(), groups, np.zeros(len(rows), int), self.seed)
            latent_rows = latent_rows.iloc[donors]
        return torch.from_numpy(store.acts(self.address_, latent_rows))

    @torch.no_grad()
    def _texts(
        self, store: ActivationSource, rows: pd.DataFrame, beams: int, latents_of: pd.DataFrame | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        prompts = _prompts(store, rows)
        longest_prompt = self._fitted().positions - self.longest_ - 1
        longest = max(map(len, prompts), default=0)
        if longest > longest_prompt:
            raise UsageError(
                f"expected questions of at most {longest_prompt - 1} words, as this verbalizer was trained on, got one of "
                f"{longest - 1}; fit it on questions as long."
            )
        return self._candidates(prompts, self._latents(store, rows if latents_of is None else latents_of), beams)


class AdaptedVerbalizer(Verbalizer):
    """The verbalizer as low-rank adapters on the reasoner's own model, not as a separate model.

    Args:
        reasoner: The model to adapt.
        **options: Options of `Verbalizer`.
    """

    name = "adapted_verbalizer"
    traits: ClassVar[DecoderTraits] = replace(Verbalizer.traits, needs_model=True)

    def __init__(self, reasoner: Reasoner, **options: Unpack[VerbalizerOptions]) -> None:
        super().__init__(reasoner=reasoner, **options)


def _prompts(store: ActivationSource, rows: pd.DataFrame) -> list[Sequence[str]]:
    """Return the question of each row, and the number of its step as a word."""
    questions = {trace: store.traces[trace].problem.question.split() for trace in rows["trace"].unique()}
    return [[*questions[trace], f"<step {step}>"] for trace, step in zip(rows["trace"], rows["step"], strict=True)]
