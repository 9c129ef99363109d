"""Induction heads: heads that attend to what followed the same token earlier, and what the model loses without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError, checked_count
from interp.models.address import Address, hook_points
from interp.reasoners.interventions import Intervention
from interp.reasoners.replayer import PartialTrace, ReplayBatch
from interp.runtime.progress import Progress
from interp.statistics.estimates import Estimate
from interp.traces import Channel

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

SEQUENCES, LENGTH, THRESHOLD, DRAWS = 20, 50, 0.4, 3
_BATCH = 4  # sequences whose attention is in memory at once
#: Where a head attends, from position t of the second half: to the token after the same token, before it, or the same.
SCORES = ("induction", "previous token", "same token")


@dataclass(frozen=True)
class InductionResult:
    """Induction heads and what ablating them costs.

    Attributes:
        heads: A row for each head, the strongest first: `layer`, `head`, `induction` with its 95 % interval, `control`
            (the same attention where the second half repeats nothing), `previous token`, `same token`, and `chosen`.
        ablations: A row for each ablation: `ablated`, `heads`, and the loss in nats a token in the first half and in the
            repeated half, with the interval of the latter.
    """

    heads: pd.DataFrame
    ablations: pd.DataFrame


def induction_heads(
    reasoner: Reasoner,
    n: int = SEQUENCES,
    *,
    length: int = LENGTH,
    threshold: float = THRESHOLD,
    seed: int = 0,
    progress: Progress | None = None,
) -> InductionResult:
    """Find induction heads on random tokens that are repeated once, and ablate them.

    Heads are chosen on the first half of the sequences. Scores and losses are those of the other half. An ablated head
    writes its mean output over sequences without repetition. As many other heads, drawn three times, are the control.

    Args:
        reasoner: The model. How it thinks does not matter.
        n: Number of sequences, at least 4.
        length: Random tokens of a sequence before they are repeated.
        threshold: A head is chosen where its induction score is at least this much above its control.
        seed: Seed of the tokens and of the control heads.
        progress: Called with (passes done, passes in all).

    Returns:
        The result.

    Raises:
        UsageError: There are too few sequences, or the model has too few positions or no attention patterns.

    References:
        Olsson et al. 2022, "In-context Learning and Induction Heads", arXiv 2209.11895.
    """
    checked_count("n", n, at_least=4)
    checked_count("length", length, at_least=2)
    rng = np.random.default_rng(seed)
    repeated, unrepeated = (_sequences(reasoner, n, length, rng, repeats=repeats) for repeats in (True, False))
    step = _Steps(progress, 4 + DRAWS)
    scores, control = (_attention(reasoner, texts, length) for texts in (repeated, unrepeated))
    step()
    half = n // 2
    gain = (scores["induction"] - control["induction"])[:half].mean(0)
    chosen = [(int(layer), int(head)) for layer, head in np.argwhere(gain >= threshold)]
    table = _table(scores, control, half, set(chosen))
    n_layers, n_heads = gain.shape
    held_out = repeated[half:]
    ablations: list[tuple[str, list[list[tuple[int, int]]]]] = [("nothing", [])]
    if chosen:
        others = [(layer, head) for layer in range(n_layers) for head in range(n_heads) if (layer, head) not in chosen]
        ablations.append(("induction heads", [chosen]))
        if len(others) >= len(chosen):
            picks = [rng.choice(len(others), len(chosen), replace=False) for _ in range(DRAWS)]
            ablations.append(("other heads", [[others[k] for k in pick] for pick in picks]))
    layers = sorted({layer for _, draws in ablations for heads in draws for layer, _ in heads})
    means = _mean_outputs(reasoner, unrepeated, layers)
    step()
    rows = []
    for name, draws in ablations:
        losses = [
            _losses(reasoner, held_out, length, _ablation(held_out, heads, means, n_heads)) for heads in draws or [[]]
        ]
        first, second = np.mean(losses, axis=0).T
        low, high = _interval(second)
        rows.append(
            {"ablated": name, "heads": len(draws[0]) if draws else 0, "loss, first half": first.mean()}
            | {"loss, repeated half": second.mean(), "low": low, "high": high, "n": len(second)}
        )
        step()
    return InductionResult(table, pd.DataFrame(rows))


class _Steps:
    def __init__(self, progress: Progress | None, n: int) -> None:
        self._progress, self._n, self._done = progress, n, 0

    def __call__(self) -> None:
        self._done += 1
        if self._progress:
            self._progress(min(self._done, self._n), self._n)


def _sequences(
    reasoner: Reasoner, n: int, length: int, rng: np.random.Generator, *, repeats: bool
) -> list[PartialTrace]:
    """Return texts of random tokens, of which the second half repeats the first or is random too."""
    tokenizer, vocabulary = reasoner.tokenizer, reasoner.vocabulary
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    ordinary = [i for i in sorted(tokenizer.get_vocab().values()) if i < vocabulary.n_embeddings and i not in special]
    start = [tokenizer.bos_token_id] if vocabulary.config.bos and tokenizer.bos_token_id is not None else []
    longest = reasoner.network.max_positions
    if longest is not None and len(start) + 2 * length > longest:
        raise UsageError(
            f"expected sequences of at most {longest} tokens, as {reasoner.name} takes, got {len(start) + 2 * length}; "
            "give a smaller length."
        )
    texts = []
    for _ in range(n):
        first, second = rng.choice(ordinary, (2, length))
        ids = [*start, *first.tolist(), *(first if repeats else second).tolist()]
        texts.append(PartialTrace(ids, [Channel.PROMPT] * len(ids), None))
    return texts


def _attention(
    reasoner: Reasoner, texts: Sequence[PartialTrace], length: int
) -> dict[str, Float[np.ndarray, "texts layers heads"]]:
    """Return for every text and head the mean attention of the second half at the offsets of `SCORES`."""
    n_layers = reasoner.model.cfg.n_layers
    names = set(hook_points(reasoner.model).names)
    hooks = [f"blocks.{k}.attn.hook_pattern" for k in range(n_layers)]
    if not names.issuperset(hooks):
        lacking = next(k for k, name in enumerate(hooks) if name not in names)
        raise UsageError(
            f"expected a model with attention in every block, got {reasoner.name}, which has none in block {lacking}; "
            "induction heads are heads of attention."
        )
    kept: list[dict[str, list[np.ndarray]]] = [{name: [] for name in SCORES} for _ in range(n_layers)]

    def keep(layer: int, pattern: Tensor, batch: ReplayBatch) -> None:
        for name, score in offset_scores(pattern, length).items():
            kept[layer][name].append(score.float().cpu().numpy())

    watchers = {name: partial(keep, k) for k, name in enumerate(hooks)}
    reasoner.replayer.replay(texts, hooks=watchers, batch_size=_BATCH)
    return {name: np.stack([np.concatenate(layer[name]) for layer in kept], axis=1) for name in SCORES}


def offset_scores(
    pattern: Float[Tensor, "batch heads pos pos"], length: int
) -> dict[str, Float[Tensor, "batch heads"]]:
    """Return the mean attention from the repeated half to each of `SCORES`.

    Args:
        pattern: Attention, from x to, of texts whose last `2 * length` tokens are a text and its repetition.
        length: Tokens of the text.
    """
    n = pattern.shape[-1]
    rows = torch.arange(n - length, n - 1, device=pattern.device)  # the last token's successor is not in the text
    columns = {"induction": rows - length + 1, "previous token": rows - 1, "same token": rows - length}
    return {name: pattern[:, :, rows, columns[name]].mean(-1) for name in SCORES}


def _table(
    scores: Mapping[str, np.ndarray], control: Mapping[str, np.ndarray], half: int, chosen: set[tuple[int, int]]
) -> pd.DataFrame:
    rows = []
    _, n_layers, n_heads = scores["induction"].shape
    for layer in range(n_layers):
        for head in range(n_heads):
            values = scores["induction"][half:, layer, head]
            low, high = _interval(values)
            row = {"layer": layer, "head": head, "induction": values.mean(), "low": low, "high": high}
            row |= {"control": control["induction"][half:, layer, head].mean()}
            row |= {name: scores[name][half:, layer, head].mean() for name in SCORES[1:]}
            rows.append(row | {"chosen": (layer, head) in chosen})
    return pd.DataFrame(rows).sort_values("induction", ascending=False, ignore_index=True)


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a mean over texts; losses are scaled to shares for it."""
    scale = max(1.0, float(values.max()))
    low, high = Estimate.of_mean(values / scale, np.arange(len(values))).interval
    return low * scale, high * scale


def _mean_outputs(
    reasoner: Reasoner, texts: Sequence[PartialTrace], layers: Sequence[int]
) -> dict[int, Float[Tensor, "heads d_head"]]:
    """Return the mean output of every head of some layers, before the output matrix."""
    n_heads = reasoner.model.cfg.n_heads
    sums: dict[int, Tensor | float] = dict.fromkeys(layers, 0.0)

    def add(layer: int, outputs: Tensor, batch: ReplayBatch) -> None:
        sums[layer] = sums[layer] + outputs.reshape(*outputs.shape[:2], n_heads, -1).float().sum((0, 1))

    if layers:
        reasoner.replayer.replay(
            texts, hooks={f"blocks.{k}.attn.hook_z": partial(add, k) for k in layers}, batch_size=_BATCH
        )
    n_positions = sum(map(len, texts))
    return {layer: torch.as_tensor(total) / n_positions for layer, total in sums.items()}


def _ablation(
    texts: Sequence[PartialTrace],
    heads: Sequence[tuple[int, int]],
    means: Mapping[int, Float[Tensor, "heads d_head"]],
    n_heads: int,
) -> list[Intervention]:
    """Return the interventions that put means in place of the outputs of some heads, at all positions."""
    rows = np.array([(k, position) for k, text in enumerate(texts) for position in range(len(text))])

    def edit_of(layer: int) -> Callable[[Tensor, np.ndarray], Tensor]:
        ablated = [head for of, head in heads if of == layer]

        def edit(outputs: Tensor, index: np.ndarray) -> Tensor:
            changed = outputs.reshape(len(outputs), n_heads, -1).clone()
            changed[:, ablated] = means[layer][ablated].to(changed)
            return changed.reshape(outputs.shape)

        return edit

    layers = sorted({layer for layer, _ in heads})
    return [Intervention(Address(f"blocks.{k}.attn.hook_z"), rows, edit_of(k)) for k in layers]


def _losses(
    reasoner: Reasoner, texts: Sequence[PartialTrace], length: int, ablation: Sequence[Intervention]
) -> Float[np.ndarray, "texts 2"]:
    """Return the mean loss of the tokens of each text's first half and of its repetition, without their first tokens."""
    losses = np.empty((len(texts), 2))

    def measure(states: Tensor, batch: ReplayBatch) -> None:
        for b, k in enumerate(batch.traces.tolist()):
            ids = torch.tensor(texts[k].token_ids, device=states.device)
            log_p = torch.log_softmax(reasoner.unembed(states[b, :-1]).float(), -1)
            loss = -log_p.gather(1, ids[1:, None])[:, 0]
            losses[k] = float(loss[-2 * length + 1 : -length].mean()), float(loss[-length + 1 :].mean())

    reasoner.replayer.replay(texts, hooks={"ln_final.hook_out": measure}, batch_size=_BATCH, interventions=ablation)
    return losses
