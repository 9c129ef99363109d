"""The read-outs that a grid can show: one value, and often a text, for each address and position of a trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from dashboards.explore.cells import Scale
from dashboards.explore.lens import LensBlock, LensCache, read_states
from interp.activations import Store
from interp.models.address import Address
from interp.text.token_text import TokenText
from interp.traces import Channel, Trace

if TYPE_CHECKING:
    from interp.decoders.saved_lens import SavedLens
    from interp.reasoners import Reasoner

#: Returns a fitted lens of a model.
OpenLens = Callable[["Reasoner"], "SavedLens"]
MARKED = 8192  # rows of a trace that the median norm of a layer is taken over, at most


@dataclass(frozen=True)
class Values:
    """Read-outs at some positions.

    Attributes:
        rows: Name of each row: an address, or what the trace itself records.
        values: Values, NaN where there is none, shape (rows, positions).
        texts: What was read, one text for each value; None where values say all.
    """

    rows: list[str]
    values: Float[np.ndarray, "rows positions"]
    texts: np.ndarray | None = None


@dataclass(frozen=True)
class Sources:
    """What read-outs are computed from.

    Attributes:
        trace: The trace whose tokens are the targets.
        at: The row of the store that is read for each position of the trace, -1 for none.
        store: The activations; None where there are none.
        reasoner: The model; None where it cannot be had.
        lens: The kept read-outs of the lens.
        random: Whether each state is replaced by a random direction of its length.
        token: Id of the chosen token, -1 for none.
        saved: Saved probes and SAEs by the key of their read-out.
        feature: Number of an SAE's feature; None for the most active one.
        recorded: Entropy and surprisal of the token at each position, shape (2, positions); those of the trace by default.
    """

    trace: Trace
    at: np.ndarray
    store: Store | None = None
    reasoner: Reasoner | None = None
    lens: LensCache = field(default_factory=LensCache)
    random: bool = False
    token: int = -1
    saved: Mapping[str, Any] = field(default_factory=dict)
    feature: int | None = None
    recorded: np.ndarray | None = None

    def states(self, address: Address, rows: np.ndarray) -> np.ndarray:
        """Return the states of some rows, or random directions of the same lengths."""
        assert self.store is not None
        acts = self.store.acts(address, rows)
        if not self.random:
            return acts
        seed = [rows.min(initial=0), self.store.addresses.index(address)]
        noise = np.random.default_rng(seed).normal(size=acts.shape).astype(np.float32)
        return noise * (np.linalg.norm(acts, axis=1) / np.linalg.norm(noise, axis=1))[:, None]


@dataclass(frozen=True)
class ReadOut:
    """A read-out that the explorer offers.

    Attributes:
        label: What menus call it.
        unit: What its values are; read-outs of the same unit can be compared.
        compute: Returns its values at some positions.
        needs: `trace`, `store` or `model`.
        scale: The scale of its values; None for the range of what is shown.
        diverging: Whether values lie on both sides of zero.
        random_control: Whether random directions of the same length are a control for it.
        control: Returns the control of a reading, given the sources of both; None where the same function reads it.
        lens: Returns the fitted lens that it reads with; None for the logit lens, and where no lens is read.
    """

    label: str
    unit: str
    compute: Callable[[Sources, np.ndarray], Values]
    needs: str = "model"
    scale: Scale | None = None
    diverging: bool = False
    random_control: bool = True
    control: Callable[[Sources, Sources, np.ndarray], Values] | None = None
    lens: OpenLens | None = None


@dataclass(frozen=True)
class Pair:
    """A reading and what it is compared with.

    Attributes:
        reading: Sources of the reading.
        other: Sources of what it is compared with; None where there is nothing.
        read_out: The read-out.
        other_read_out: The read-out that it is compared with; the same one for a control.
        label: What that is called.
    """

    reading: Sources
    other: Sources | None
    read_out: ReadOut
    other_read_out: ReadOut
    label: str

    def compute(self, show: str, positions: np.ndarray) -> Values:
        """Return the `reading`, the `control`, or their `difference` at some positions."""
        if self.other is None or show == "reading":
            return self.read_out.compute(self.reading, positions)
        if self.read_out is self.other_read_out and self.read_out.control is not None:
            other = self.read_out.control(self.reading, self.other, positions)
        else:
            other = self.other_read_out.compute(self.other, positions)
        if show == "control":
            return other
        own = self.read_out.compute(self.reading, positions)
        return Values(own.rows, own.values - other.values)


def _addresses(sources: Sources) -> list[Address]:
    assert sources.store is not None
    return sorted(sources.store.addresses, key=lambda address: -address.depth)


def scattered(known: np.ndarray, values: np.ndarray, fill: float | str = np.nan) -> np.ndarray:
    """Return values at the positions that were captured, and `fill` at the others."""
    out = np.full(len(known), fill, dtype=object if fill == "" else float)
    out[known] = values
    return out


def next_tokens(trace: Trace, positions: np.ndarray) -> np.ndarray:
    """Return the id of the token that is said after each position; -1 where the next one is no text."""
    following = [k + 1 for k in positions.tolist()]
    is_text = [k < len(trace) and trace.channel[k] not in (Channel.LATENT, Channel.PAD) for k in following]
    return np.array([trace.token_ids[k] if ok else -1 for k, ok in zip(following, is_text, strict=True)])


def _lens_at(
    sources: Sources, address: Address, rows: np.ndarray, targets: np.ndarray, lens: SavedLens | None
) -> LensBlock:
    assert sources.store is not None and sources.reasoner is not None
    if sources.random:
        return read_states(sources.reasoner, sources.states(address, rows), address, targets, lens)
    return sources.lens.read(sources.store, sources.reasoner, address, rows, targets, lens)


def _lens(
    value_of: Callable[[LensBlock], np.ndarray], text: str, open_lens: OpenLens | None
) -> Callable[[Sources, np.ndarray], Values]:
    """Return a function that reads one figure of a lens; `text` is what the cells say: `top` or `rank`."""

    def compute(sources: Sources, positions: np.ndarray) -> Values:
        assert sources.reasoner is not None
        lens = open_lens(sources.reasoner) if open_lens else None
        known = sources.at[positions] >= 0
        rows = sources.at[positions][known]
        chosen = np.full(len(rows), sources.token)
        targets = chosen if sources.token >= 0 else next_tokens(sources.trace, positions)[known]
        addresses, values, texts = _addresses(sources), [], []
        names = sources.reasoner.tokenizer.convert_ids_to_tokens
        for address in addresses:
            if lens is not None and not lens.reads(address):
                values.append(np.full(len(known), np.nan))
                texts.append(np.full(len(known), "", dtype=object))
                continue
            block = _lens_at(sources, address, rows, targets, lens)
            values.append(scattered(known, value_of(block)))
            if text == "rank":
                words = _ranks(block)
            else:
                tokens = names(block.ids[:, 0].tolist())
                show = TokenText([*sources.trace.tokens, *tokens]).cell
                words = [show(token or "") for token in tokens]
            texts.append(scattered(known, np.array(words, dtype=object), ""))
        return Values([address.name for address in addresses], np.array(values), np.array(texts, dtype=object))

    return compute


def _ranks(block: LensBlock) -> list[str]:
    return [f"{rank:.0f}" if rank == rank else "" for rank in block.rank]


def _same_token(open_lens: OpenLens | None) -> Callable[[Sources, Sources, np.ndarray], Values]:
    """Return a function that reads the probability that the control gives to the likeliest token of the reading."""

    def control(reading: Sources, other: Sources, positions: np.ndarray) -> Values:
        assert other.reasoner is not None
        lens = open_lens(other.reasoner) if open_lens else None
        both = (reading.at[positions] >= 0) & (other.at[positions] >= 0)
        addresses, values, texts = _addresses(reading), [], []
        none = np.full(int(both.sum()), -1)
        for address in addresses:
            if lens is not None and not lens.reads(address):
                values.append(np.full(len(both), np.nan))
                texts.append(np.full(len(both), "", dtype=object))
                continue
            tokens = _lens_at(reading, address, reading.at[positions][both], none, lens).ids[:, 0].astype(int)
            block = _lens_at(other, address, other.at[positions][both], tokens, lens)
            values.append(scattered(both, block.target))
            texts.append(scattered(both, np.array(_ranks(block), dtype=object), ""))
        return Values([address.name for address in addresses], np.array(values), np.array(texts, dtype=object))

    return control


def _norm(sources: Sources, positions: np.ndarray) -> Values:
    """Return how many doublings each state's length is above the median of its layer in the trace."""
    assert sources.store is not None
    known, captured = sources.at[positions] >= 0, sources.at[sources.at >= 0]
    sample = captured[:: -(-len(captured) // MARKED) or 1] if len(captured) else captured
    addresses, values = _addresses(sources), []
    for address in addresses:
        lengths = np.linalg.norm(sources.states(address, sources.at[positions][known]), axis=1)
        usual = lengths if len(sample) == len(lengths) else np.linalg.norm(sources.states(address, sample), axis=1)
        median = float(np.median(usual)) if len(usual) else 1.0
        values.append(scattered(known, np.log2(np.maximum(lengths, 1e-12) / max(median, 1e-12))))
    return Values([address.name for address in addresses], np.array(values))


def _cosine(sources: Sources, positions: np.ndarray) -> Values:
    """Return the cosine of each state with that of the position before it."""
    before = np.where(positions > 0, sources.at[np.maximum(positions - 1, 0)], -1)
    known = (sources.at[positions] >= 0) & (before >= 0)
    addresses, values = _addresses(sources), []
    for address in addresses:
        here, there = (sources.states(address, rows[known]) for rows in (sources.at[positions], before))
        lengths = np.linalg.norm(here, axis=1) * np.linalg.norm(there, axis=1)
        values.append(scattered(known, np.einsum("nd,nd->n", here, there) / np.maximum(lengths, 1e-12)))
    return Values([address.name for address in addresses], np.array(values))


def _recorded(sources: Sources, positions: np.ndarray) -> Values:
    """Return what the trace records of its own tokens: the entropy before each, and how surprising it was."""
    recorded = entropy_and_surprisal(sources.trace) if sources.recorded is None else sources.recorded
    return Values(["entropy", "surprisal"], recorded[:, positions])


def entropy_and_surprisal(trace: Trace) -> np.ndarray:
    """Return the entropy before each token of a trace and its surprisal, in nats, shape (2, positions)."""
    return np.array([trace.entropy, np.negative(trace.logprob)], dtype=float)


PROBABILITY, NATS = "probability", "nats"


def lens_read_outs(name: str, open_lens: OpenLens | None = None) -> dict[str, ReadOut]:
    """Return what can be read with one lens.

    Args:
        name: What menus call the lens.
        open_lens: Returns the lens; None for the logit lens.
    """

    def read_out(
        label: str, unit: str, value_of: Callable[[LensBlock], np.ndarray], text: str, **options: Any
    ) -> ReadOut:
        return ReadOut(f"{name}: {label}", unit, _lens(value_of, text, open_lens), lens=open_lens, **options)

    share = {"scale": Scale(0, 1)}
    top = {"control": _same_token(open_lens), **share}
    return {
        "top1": read_out("its likeliest token", PROBABILITY, lambda b: b.probabilities[:, 0], "top", **top),
        "entropy": read_out("entropy", NATS, lambda b: b.entropy, "top"),
        "next": read_out("the token said next", PROBABILITY, lambda b: b.target, "rank", **share),
        "rank": read_out("rank of the token said next", "log10 of the rank", lambda b: np.log10(b.rank), "rank"),
        "token": read_out("a token of your choice", PROBABILITY, lambda b: b.target, "rank", **share),
    }


READ_OUTS: dict[str, ReadOut] = {
    **lens_read_outs("logit lens"),
    "norm": ReadOut(
        "length of the state", "doublings over the layer's median", _norm, "store", diverging=True, random_control=False
    ),
    "cosine": ReadOut("cosine with the position before", "cosine", _cosine, "store", Scale(-1, 1, True), True),
    "said": ReadOut("entropy and surprisal of what was said", NATS, _recorded, "trace", random_control=False),
}
