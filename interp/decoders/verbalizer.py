"""The verbalizer: a small language model that reads a question and one latent, and writes what the latent means.

This is Heima's interpreter (arXiv 2501.19201, section 3): it is prompted with the question and a placeholder
whose embedding is overwritten by the reasoner's last hidden state, and trained to write the step's text. The
state is taken at the thinking token, or one position earlier, where the token is predicted, as the paper's
code has it: `read_at`. The paper shows neither an interpreter without the latent nor one with another
problem's; both are modes here, because a question alone may give a step away.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.decoders.base import Readings
from interp.decoders.low_rank import RANK, AdaptedWriter
from interp.decoders.sites import STEP_TEXT, other_problem
from interp.decoders.writer import Vocabulary, Writer, taught_writer
from interp.errors import StoreError, UsageError, checked_count, unknown
from interp.models.address import Address
from interp.runtime.files import commit
from interp.runtime.progress import Progress

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

Mode = Literal["latent", "question", "shuffled"]
ReadAt = Literal["token", "before"]
MODES: tuple[Mode, ...] = get_args(Mode)
DESCRIPTION, WEIGHTS = "verbalizer.json", "model.safetensors"
SCHEMA_VERSION = 1
_BATCH = 256


class Verbalizer:
    """Writes the text of a row from its question, the number of its step, and its latent.

    `mode` says what it is given: `latent`, the row's own; `question`, none at all; `shuffled`, that of another
    problem at the same step, in training as in use. `read_at` is the position of the latent: the row's own
    (`token`) or the one `before` it. Texts are split at white space; a word that training never showed is
    unknown in a question and cannot be written. With a `reasoner` the writer is that model itself, frozen, with low-rank
    adapters of rank `rank` (`interp.decoders.low_rank`), and the sizes do not count.
    """

    name = "verbalizer"
    # Heima reads the last hidden state, and fitting takes half a minute: other sites are left to cheaper decoders.
    reads = ("ln_final.hook_out",)
    follows_probe = True
    asks_for_step = True
    says = STEP_TEXT

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
        self.d_model = checked_count("d_model", d_model)
        self.n_layers = checked_count("n_layers", n_layers)
        self.n_heads = checked_count("n_heads", n_heads)
        if d_model % (2 * n_heads):
            raise UsageError(f"d_model must be a multiple of twice n_heads, but {d_model} and {n_heads} came.")
        self.updates = checked_count("updates", updates)
        self.batch_size = checked_count("batch_size", batch_size)
        self.learning_rate, self.seed, self.progress = learning_rate, seed, progress
        self.reasoner, self.rank = reasoner, checked_count("rank", rank)
        self.writer_: Writer | None = None

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> Verbalizer:
        """Train on `rows` of `store` to write `targets`, one text a row: a step's text, or only its value."""
        texts = [str(target) for target in targets]
        if not len(rows) or len(rows) != len(texts) or not all(text.strip() for text in texts):
            raise UsageError(
                f"the verbalizer learns from rows that each have a text, but {len(rows)} rows came with "
                f"{sum(bool(text.strip()) for text in texts)} texts."
            )
        self.address_, self.weights_ = address, store.meta["reasoner"]["weights"]
        prompts = _prompts(store, rows)
        latents = self._latents(store, rows)
        self.longest_ = max(len(text.split()) for text in texts)
        self.writer_ = taught_writer(
            self._make,
            prompts,
            latents,
            texts,
            standardise=True,
            updates=self.updates,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            progress=self.progress,
        )
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> Readings:
        """The `top_k` likeliest texts of each row (beam search), with their probabilities; empty ones of none."""
        self._check(store, address)
        found = self._candidates(store, rows, checked_count("top_k", top_k))
        texts = np.empty((len(rows), top_k), dtype=object)
        texts[:] = ""
        scores = np.zeros((len(rows), top_k))
        for k, (row, score) in enumerate(found):
            possible = score > 0  # fewer texts may exist than were asked for
            texts[k, : len(row)][possible], scores[k, : len(row)] = np.array(row, dtype=object)[possible], score
        return Readings(texts, scores)

    def write(
        self, store: ActivationSource, rows: pd.DataFrame, *, latents_of: pd.DataFrame | None = None
    ) -> list[str]:
        """The greedily written text of each row.

        With `latents_of`, each row's question is read with the latent of another row in its place there.
        """
        self._check(store, None)
        return [row[0] for row, _ in self._candidates(store, rows, 1, latents_of)]

    def question_only(self, store: ActivationSource, read: pd.DataFrame) -> np.ndarray:
        """What a verbalizer of the same size writes that sees the question and no latent, for each row of a table of
        read-outs (columns trace, position, step, split, gold); it is fitted on that table's training rows."""
        index = store.index.set_index(["trace", "position"], drop=False)
        rows = index.loc[list(zip(read["trace"], read["position"], strict=True))].assign(step=read["step"].to_numpy())
        train = (read["split"] == "train").to_numpy()
        given: dict[str, Any] = {} if self.reasoner is None else {"reasoner": self.reasoner, "rank": self.rank}
        twin = type(self)(
            mode="question",
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            updates=self.updates,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            **given,
        )
        twin.fit(store, self.address_, rows[train], read["gold"].to_numpy()[train])
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
            "heard": writer.words.heard,
            "spoken": writer.words.spoken,
            "rank": None if self.reasoner is None else self.rank,
        }
        state = writer.learned()
        commit(Path(folder) / WEIGHTS, save(state))
        commit(Path(folder) / DESCRIPTION, (json.dumps(description, indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: Path | str, reasoner: Reasoner | None = None) -> Verbalizer:
        """A verbalizer that was saved; one made of adapters needs the `reasoner` that it adapts.

        Raises `StoreError` when the folder holds none, a damaged one, or adapters of another model.
        """
        folder = Path(folder)
        if not (folder / DESCRIPTION).exists():
            raise StoreError(f"no verbalizer in {folder}: it has no {DESCRIPTION}. Fit one and save it there.")
        try:
            raw: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text())
            shape = {key: raw[key] for key in ("mode", "read_at", "d_model", "n_layers", "n_heads", "seed")}
            adapters = raw.get("rank") is not None
            given = {"reasoner": reasoner, "rank": raw["rank"]} if adapters and reasoner is not None else {}
            made = Verbalizer(**shape, **given)
            made.address_, made.weights_, made.longest_ = Address(raw["address"]), raw["weights"], raw["longest"]
            if adapters and (reasoner is None or reasoner.weights != made.weights_):
                raise StoreError(
                    f"{folder} holds adapters of a model, not a model. Pass the reasoner that they were fitted to."
                )
            words = Vocabulary(raw["heard"], raw["spoken"])
            writer = made._make(words, raw["d_latent"] or None, raw["positions"])
            writer.load_state_dict(load((folder / WEIGHTS).read_bytes()), strict=not adapters)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            first = str(error).strip().splitlines()[0]
            raise StoreError(f"the verbalizer in {folder} cannot be read ({first}). Fit and save it again.") from None
        made.writer_ = writer.eval()
        return made

    def _make(self, words: Vocabulary, d_latent: int | None, positions: int) -> Writer:
        if self.reasoner is not None:
            return AdaptedWriter(words, d_latent, self.reasoner, positions=positions, rank=self.rank)
        sizes = {"d_model": self.d_model, "n_layers": self.n_layers, "n_heads": self.n_heads}
        return Writer(words, d_latent, positions=positions, **sizes)

    def _fitted(self) -> Writer:
        if self.writer_ is None:
            raise UsageError("this verbalizer is not fitted; call fit first, or load a saved one.")
        return self.writer_

    def _check(self, store: ActivationSource, address: Address | None) -> None:
        self._fitted()
        if address is not None and address != self.address_:
            raise UsageError(f"this verbalizer was fitted at {self.address_}, but {address} came. Fit one there.")
        if self.mode != "question" and store.meta["reasoner"]["weights"] != self.weights_:
            raise StoreError(
                "this verbalizer was fitted to another model's latents than "
                f"{store.meta['reasoner']['name']}'s, which this store holds. Fit one to this store."
            )

    def _latents(self, store: ActivationSource, rows: pd.DataFrame) -> Tensor | None:
        if self.mode == "question":
            return None
        at = rows if self.read_at == "token" else rows_before(store, rows)
        if self.mode == "shuffled":
            groups = structures(store, rows)
            donors = other_problem(rows["step"].to_numpy(), groups, np.zeros(len(rows), int), self.seed)
            at = at.iloc[donors]
        return torch.from_numpy(store.acts(self.address_, at))

    @torch.no_grad()
    def _candidates(
        self, store: ActivationSource, rows: pd.DataFrame, beams: int, latents_of: pd.DataFrame | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        writer, prompts = self._fitted(), _prompts(store, rows)
        room = writer.positions - self.longest_ - 1
        longest = max(map(len, prompts), default=0)
        if longest > room:
            raise UsageError(
                f"a question of {longest - 1} words is longer than any that this verbalizer was trained on "
                f"({room - 1}). Fit it on questions as long."
            )
        latents = self._latents(store, rows if latents_of is None else latents_of)
        out: list[tuple[list[str], np.ndarray]] = []
        for start in range(0, len(rows), _BATCH):
            part = slice(start, start + _BATCH)
            given = None if latents is None else latents[part]
            found = writer.candidates(writer.prompt_ids(prompts[part]), given, beams=beams, longest=self.longest_)
            out += [(texts, scores.numpy()) for texts, scores in zip(*found, strict=True)]
        return out


class AdaptedVerbalizer(Verbalizer):
    """The verbalizer as low-rank adapters on the reasoner's own model, not a model of its own."""

    name = "adapted_verbalizer"
    needs_model = True

    def __init__(self, reasoner: Reasoner, **options: Any) -> None:
        super().__init__(reasoner=reasoner, **options)


def rows_before(store: ActivationSource, rows: pd.DataFrame) -> pd.DataFrame:
    """The row one position earlier of each row. Raises `StoreError` where it was not captured."""
    index = store.index
    known = pd.MultiIndex.from_arrays([index["trace"], index["position"]])
    at = known.get_indexer(pd.MultiIndex.from_arrays([rows["trace"], rows["position"] - 1]))
    if (at < 0).any():
        missing = rows.iloc[int(np.flatnonzero(at < 0)[0])]
        raise StoreError(
            f"position {missing['position'] - 1} of trace {missing['trace']} is not in {store.name}, so nothing can be "
            "read one position before a thought. Capture the channels latent, thought and special."
        )
    return index.iloc[at]


def _prompts(store: ActivationSource, rows: pd.DataFrame) -> list[Sequence[str]]:
    """The question of each row, and which of its steps is asked for."""
    questions = {t: store.traces[t].problem.question.split() for t in rows["trace"].unique()}
    return [[*questions[t], f"<step {s}>"] for t, s in zip(rows["trace"], rows["step"], strict=True)]
