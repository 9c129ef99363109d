"""Pinned tokens over layers: how likely the lens finds each at one place, over the traces that have the place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Int

from dashboards.artifacts.trace_file import TraceFile
from dashboards.explore.read_outs import next_tokens
from interp.activations import Store
from interp.models.address import Address
from interp.problems.base import Problem
from interp.runtime import palette
from interp.statistics.intervals import grouped_mean_interval

if TYPE_CHECKING:
    from interp.decoders.saved_lens import SavedLens
    from interp.reasoners import Reasoner

MOST_TRACES = 200
MOST_PINS = 6
#: The pin of the token that each trace says after the place.
NEXT = "token said next"
LOGIT_LENS = "logit lens"
_WORK = 1e11  # multiplications that a chart may take: about three seconds of one core
_COLOURS = (palette.BLUE, palette.ORANGE, palette.GREEN, palette.PURPLE, palette.SKY, palette.VERMILLION)


@dataclass(frozen=True)
class Sample:
    """Rows of a store at one place, of different traces.

    Attributes:
        rows: Numbers of the rows.
        traces: The trace of each row.
        total: How many traces have the place.
    """

    rows: np.ndarray
    traces: np.ndarray
    total: int


def sample(store: Store, reasoner: Reasoner, place: str) -> Sample:
    """Return rows at a place, one a trace, evenly spread where there are more than can be read without a wait."""
    index = store.index
    rows = np.flatnonzero((index["place"] == place).to_numpy())
    rows = rows[~index["trace"].iloc[rows].duplicated().to_numpy()]
    vocabulary, width = reasoner.unembed.weight.shape
    affordable = int(_WORK / (2 * vocabulary * width * len(store.addresses)))
    most = max(8, min(MOST_TRACES, affordable))
    some = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)] if len(rows) else rows
    return Sample(some, index["trace"].iloc[some].to_numpy(), len(rows))


def token_id(reasoner: Reasoner, text: str) -> int:
    """Return the id of the token of a text; -1 where it is no single token, or none that the tokenizer knows."""
    vocabulary = reasoner.tokenizer.get_vocab()
    for form in (text, f"Ġ{text}", f"▁{text}"):
        if form in vocabulary:
            return int(vocabulary[form])
    ids = reasoner.tokenizer(text, add_special_tokens=False)["input_ids"]
    # The token for unknown text is no word's own: reading it would look like reading the word.
    return int(ids[0]) if len(ids) == 1 and ids[0] != reasoner.tokenizer.unk_token_id else -1


def own_text(problem: Problem, answer: str, pin: str) -> str:
    """Return what a pin means in one trace: its answer, its value after a step, or the pin itself."""
    if pin == "answer":
        return answer
    name, _, number = pin.partition(" ")
    if name == "value" and number.isdecimal():
        steps = problem.steps
        return str(steps[int(number) - 1].value) if 1 <= int(number) <= len(steps) else ""
    return pin


def said_next(file: TraceFile, store: Store, where: Sample) -> np.ndarray:
    """Return the id of the token that each trace says after the place, -1 where the next position is no text."""
    positions = store.index["position"].to_numpy()[where.rows]
    following = [
        next_tokens(file.trace(int(trace)), np.array([position]))[0]
        for trace, position in zip(where.traces, positions, strict=True)
    ]
    return np.array(following, dtype=int)


def targets(
    file: TraceFile, store: Store, reasoner: Reasoner, where: Sample, pins: Sequence[str]
) -> Int[np.ndarray, "traces pins"]:
    """Return the token id of each pin in each trace, -1 where it has none.

    Args:
        file: The traces.
        store: Their activations.
        reasoner: The model.
        where: The rows that are read.
        pins: Tokens, `answer` and `value K` for a trace's own, or `NEXT`.
    """
    problems, answers = file.problems(where.traces), file.answers(where.traces)
    wanted = np.array(
        [
            [token_id(reasoner, text) if (text := own_text(problem, answer, pin)) else -1 for pin in pins]
            for problem, answer in zip(problems, answers, strict=True)
        ]
    ).reshape(len(where.traces), len(pins))
    if NEXT in pins:
        wanted[:, list(pins).index(NEXT)] = said_next(file, store, where)
    return wanted


def among(wanted: np.ndarray, lens: SavedLens | None) -> np.ndarray:
    """Return token ids with -1 for those that a lens was not fitted to."""
    if lens is None or lens.tokens is None:
        return wanted
    return np.where(np.isin(wanted, lens.tokens), wanted, -1)


def read(
    store: Store,
    reasoner: Reasoner,
    where: Sample,
    wanted: np.ndarray,
    pins: Sequence[str],
    groups: np.ndarray,
    lens: SavedLens | None = None,
) -> pd.DataFrame:
    """Return how likely a lens finds each pin at each address, beside the same pin in another trace.

    Args:
        store: The activations.
        reasoner: The model that made them.
        where: The rows that are read.
        wanted: Token ids, shape (rows, pins), -1 for none.
        pins: Names of the pins.
        groups: Structure of each trace's problem, for intervals.
        lens: A fitted lens of the model; the logit lens by default. Pins that it was not fitted to have no rows.

    Returns:
        One row for each pin and each address that the lens reads: address, label, pin, probability, low, high, control, control_low,
        control_high, rank (geometric mean), rank_low, rank_high, control_rank, control_rank_low, control_rank_high, traces.
    """
    table = []
    wanted = among(wanted, lens)
    for address in sorted(store.addresses, key=lambda address: address.depth):
        if lens is not None and not lens.reads(address):
            continue
        states = store.acts(address, where.rows)
        probability, rank = _of_targets(reasoner, states, address, wanted, lens)
        elsewhere, rank_elsewhere = _of_targets(reasoner, np.roll(states, 1, axis=0), address, wanted, lens)
        for k, pin in enumerate(pins):
            known = wanted[:, k] >= 0
            if known.sum() < 2:
                continue
            mean, other = probability[known, k], elsewhere[known, k]
            low, high = grouped_mean_interval(mean, groups[known], draws=400)
            control_low, control_high = grouped_mean_interval(other, groups[known], draws=400)
            table.append(
                {
                    "address": address.name,
                    "label": address.label,
                    "pin": pin,
                    "probability": float(mean.mean()),
                    "low": low,
                    "high": high,
                    "control": float(other.mean()),
                    "control_low": control_low,
                    "control_high": control_high,
                    **_mean_rank("rank", rank[known, k], groups[known]),
                    **_mean_rank("control_rank", rank_elsewhere[known, k], groups[known]),
                    "traces": int(known.sum()),
                }
            )
    return pd.DataFrame(table, columns=_COLUMNS)


_COLUMNS = [
    *("address", "label", "pin", "probability", "low", "high", "control", "control_low", "control_high"),
    *("rank", "rank_low", "rank_high", "control_rank", "control_rank_low", "control_rank_high", "traces"),
]


def _mean_rank(name: str, ranks: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Return the geometric mean of some ranks under a name, with its interval."""
    logs = np.log10(ranks)
    low, high = grouped_mean_interval(logs, groups, draws=400)
    if not logs.any():  # all are first: no other rank was seen, and none can be better
        low = high = 0.0
    return {name: float(10 ** logs.mean()), f"{name}_low": float(10**low), f"{name}_high": float(10**high)}


def _of_targets(
    reasoner: Reasoner, states: np.ndarray, address: Address, wanted: np.ndarray, lens: SavedLens | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return probability and rank of several tokens for each state, shape (rows, pins) each."""
    import torch

    from interp.decoders.logit_lens import unembed_states

    parts = []
    for first in range(0, len(states), 32):
        with torch.no_grad():
            part = torch.from_numpy(np.ascontiguousarray(states[first : first + 32])).to(reasoner.device)
            logits = unembed_states(reasoner, part, address.norm) if lens is None else lens.logits(part, address)
            log_p = torch.log_softmax(logits.float(), dim=-1)
            ids = torch.from_numpy(np.maximum(wanted[first : first + 32], 0)).to(log_p.device)
            chosen = log_p.gather(1, ids)
            ranks = torch.stack([(log_p > chosen[:, k, None]).sum(-1) + 1 for k in range(ids.shape[1])], 1)
        parts.append((chosen.exp().cpu().numpy(), ranks.cpu().numpy()))
    return np.concatenate([p for p, _ in parts]), np.concatenate([r for _, r in parts])


def probability_chart(table: pd.DataFrame, lens: str = LOGIT_LENS) -> go.Figure:
    """Return lines of the probability of each pin over layers, with 95 % bands, and its control as a dotted line.

    Args:
        table: What `read` returns.
        lens: What the lens is called.
    """
    figure = go.Figure()
    for colour, (pin, part) in zip(_COLOURS, table.groupby("pin", sort=False), strict=False):
        _line(figure, part, str(pin), colour, ("probability", "low", "high"))
        _control(figure, part, str(pin), colour, "control")
    figure.update_yaxes(title="probability", range=[0, 1.03])
    return _lay_out(figure, f"Probability of each pin by the {escape(lens)}")


def rank_chart(table: pd.DataFrame) -> go.Figure:
    """Return lines of the rank of each pin over layers, with its control; the likeliest token is at the top."""
    figure = go.Figure()
    for colour, (pin, part) in zip(_COLOURS, table.groupby("pin", sort=False), strict=False):
        _line(figure, part, str(pin), colour, ("rank", "rank_low", "rank_high"))
        _control(figure, part, str(pin), colour, "control_rank")
    figure.update_yaxes(title="rank (geometric mean)", type="log", autorange="reversed", dtick="D2")
    return _lay_out(figure, "Rank of each pin among all tokens")


def _control(figure: go.Figure, part: pd.DataFrame, pin: str, colour: str, column: str) -> None:
    """Add the same pin in another trace as a dotted line with its intervals."""
    figure.add_scatter(
        x=part["label"],
        y=part[column],
        name=f"{pin}: another trace",
        line={"color": colour, "dash": "dot"},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": part[f"{column}_high"] - part[column],
            "arrayminus": part[column] - part[f"{column}_low"],
            "thickness": 1,
        },
    )


def _line(figure: go.Figure, part: pd.DataFrame, name: str, colour: str, columns: tuple[str, str, str]) -> None:
    value, low, high = columns
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    figure.add_scatter(
        x=[*part["label"], *part["label"][::-1]],
        y=[*part[high], *part[low][::-1]],
        fill="toself",
        mode="lines",
        fillcolor=f"rgba({red},{green},{blue},.18)",
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_scatter(
        x=part["label"],
        y=part[value],
        name=name,
        mode="lines+markers",
        line={"color": colour},
        customdata=part[[low, high, "traces"]],
        hovertemplate="%{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}], %{customdata[2]} traces"
        "<extra>" + name.replace("<", "&lt;") + "</extra>",
    )


def _lay_out(figure: go.Figure, title: str) -> go.Figure:
    figure.update_layout(
        title=title,
        height=420,
        margin={"l": 60, "r": 60, "t": 60, "b": 60},
        legend={"orientation": "h", "y": -0.2},
    )
    return figure
