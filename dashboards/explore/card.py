"""What is known of one cell: its token and place, what lenses, decoders, probes and SAEs read, and the nearest rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dashboards.explore.lens import read_states
from dashboards.explore.opening import Material
from dashboards.explore.read_outs import Sources, next_tokens
from dashboards.explore.saved import Saved, probe_scores, sae_features
from dashboards.explore.screen import row_label
from interp.activations import Store
from interp.models.address import Address
from interp.text.token_text import TokenText
from interp.traces import Channel

if TYPE_CHECKING:
    from interp.decoders.saved_lens import SavedLens

MOST_ROWS = 40_000  # rows of a store that a neighbour is looked for among
NEIGHBOURS = 6


@dataclass(frozen=True)
class Neighbours:
    """The rows of other traces that are closest to a cell.

    Attributes:
        table: Columns trace, position, token, place, context, cosine.
        usual: Median cosine over all rows that were compared: what a row at random gives.
        compared: How many rows were compared.
        total: Rows of other traces in the store.
    """

    table: pd.DataFrame
    usual: float
    compared: int
    total: int


def facts(material: Material, row: str, position: int) -> dict[str, str]:
    """Return what the trace itself says of a cell."""
    trace = material.trace
    words = TokenText.of(trace)
    entropy, logprob = trace.entropy[position], trace.logprob[position]
    step = trace.step[position]
    return {
        "token": words.cell(trace.tokens[position]),
        "position": str(position),
        "place": material.places[position],
        "step": str(step) if step else "–",
        "channel": trace.channel[position],
        "layer": row_label(row),
        "entropy before it": "–" if entropy != entropy else f"{entropy:.3f} nats",
        "probability of it": "–" if logprob != logprob else f"{np.exp(logprob):.3f}",
    }


def lens_table(
    sources: Sources, address: Address, position: int, control_row: int, lens: SavedLens | None = None
) -> pd.DataFrame:
    """Return a lens's likeliest tokens at a cell, each with its probability at another trace's same place.

    Args:
        sources: Trace, store and model.
        address: Address of the cell.
        position: Position of the cell, which was captured.
        control_row: Row of the store at the same place of another trace, -1 for none.
        lens: A fitted lens that can be read at the address; the logit lens by default.
    """
    assert sources.store is not None and sources.reasoner is not None
    rows = np.array([sources.at[position]])
    target = next_tokens(sources.trace, np.array([position]))
    block = sources.lens.read(sources.store, sources.reasoner, address, rows, target, lens)
    names = sources.reasoner.tokenizer.convert_ids_to_tokens
    # A lens that was fitted to a few tokens reads no others.
    known = lens.tokens if lens is not None else None
    ids = block.ids[0].tolist() if known is None else block.ids[0].tolist()[: len(known)]
    show = TokenText([*sources.trace.tokens, *(str(name) for name in names(ids))]).cell
    table = pd.DataFrame(
        {
            "token": [show(str(name)) for name in names(ids)],
            "probability": block.probabilities[0][: len(ids)],
            "rank": range(1, len(ids) + 1),
        }
    )
    next_token = int(target[0])
    if next_token >= 0 and next_token not in ids and (known is None or next_token in known):
        ids.append(next_token)
        table.loc[len(table)] = [show(str(names([next_token])[0])), float(block.target[0]), int(block.rank[0])]
    table["said next"] = ["✓" if token == next_token else "" for token in ids]
    if control_row >= 0:
        state = np.repeat(sources.store.acts(address, np.array([control_row])), len(ids), axis=0)
        table["another trace"] = read_states(sources.reasoner, state, address, np.array(ids), lens).target
    return table[["rank", *(column for column in table.columns if column != "rank")]]


def alternatives(sources: Sources, position: int) -> pd.DataFrame | None:
    """Return what else the model could have said at a position: its own last state one position earlier.

    None where that state was not captured, or nothing is said there.
    """
    store, reasoner = sources.store, sources.reasoner
    if sources.trace.channel[position] == Channel.LATENT:
        return None
    if store is None or reasoner is None or position == 0 or sources.at[position - 1] < 0:
        return None
    last = max(store.addresses, key=lambda address: address.depth)
    if last.norm != "post" and last.layer != reasoner.model.cfg.n_layers - 1:
        return None
    rows, own = np.array([sources.at[position - 1]]), np.array([sources.trace.token_ids[position]])
    block = sources.lens.read(store, reasoner, last, rows, own)
    names = [str(name) for name in reasoner.tokenizer.convert_ids_to_tokens(block.ids[0].tolist())]
    show = TokenText([*sources.trace.tokens, *names]).cell
    return pd.DataFrame(
        {
            "token": [show(name) for name in names],
            "probability": block.probabilities[0],
            "sampled": ["✓" if int(k) == int(own[0]) else "" for k in block.ids[0]],
        }
    )


def scores_table(saved: Sequence[Saved], sources: Sources, address: Address, position: int) -> pd.DataFrame:
    """Return what saved probes and SAEs of this address read at a cell, the largest scores of each.

    Columns: read-out, reads, score, and the same at a random direction of the same length.
    """
    rows = np.array([sources.at[position]])
    state = sources.states(address, rows)
    noise = np.random.default_rng(0).normal(size=state.shape).astype(np.float32)
    noise *= np.linalg.norm(state) / np.linalg.norm(noise)
    table = []
    for item in saved:
        if item.address != address:
            continue
        both = np.concatenate([state, noise])
        if item.kind == "probe":
            scores, names = probe_scores(item, both)
            labels = [str(name) for name in names]
        else:
            scores = sae_features(item, both)
            labels = [f"feature {k}" for k in range(scores.shape[1])]
        for best in np.argsort(-scores[0], kind="stable")[:3]:
            if scores[0, best] > 0:
                name = item.key.partition(":")[2]
                table.append(
                    {
                        "read-out": f"{'SAE' if item.kind == 'sae' else 'probe'} {name}",
                        "reads": labels[best],
                        "score": float(scores[0, best]),
                        "random direction": float(scores[1, best]),
                    }
                )
    return pd.DataFrame(table, columns=["read-out", "reads", "score", "random direction"])


def nearest(material: Material, address: Address, position: int) -> Neighbours:
    """Return the rows of other traces with the highest cosine to a cell.

    Args:
        material: The trace and its store.
        address: Address of the cell.
        position: Position of the cell, which was captured.
    """
    store = material.store
    assert store is not None
    traces = store.index["trace"].to_numpy()
    others = np.flatnonzero(traces != material.row)
    some = others[:: -(-len(others) // MOST_ROWS) or 1]
    acts = store.acts(address, some)
    state = store.acts(address, np.array([material.rows[position]]))[0]
    cosines = acts @ state / np.maximum(np.linalg.norm(acts, axis=1) * np.linalg.norm(state), 1e-12)
    best = np.argsort(-cosines, kind="stable")[:NEIGHBOURS]
    table = store.index.iloc[some[best]][["trace", "position", "token", "place"]].reset_index(drop=True)
    ids = material.file.ids
    table["context"] = [_context(store, int(row)) for row in some[best]]
    table["trace"] = [int(ids[number]) for number in table["trace"]]
    table["cosine"] = cosines[best]
    return Neighbours(table, float(np.median(cosines)) if len(some) else np.nan, len(some), len(others))


def _context(store: Store, row: int, around: int = 4) -> str:
    """Return the captured tokens around a row of a store."""
    part = store.index.iloc[max(0, row - around) : row + around + 1]
    tokens = part["token"][part["trace"] == store.index["trace"].iloc[row]].tolist()
    return TokenText(tokens).join(tokens)
