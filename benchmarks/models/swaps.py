"""Interchange of a value inside SmolLM2, at a site chosen on validation problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.parts import PartResult
from interp.causal.interchanges.results import InterchangeResult
from interp.causal.interchanges.run import interchange

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

#: Places of a swap, counted from the token that completes the value.
OFFSETS = (-1, 0)


def follow_inside(reasoner: Reasoner, n: int, layers: Sequence[int], seed: int = 0, progress: Any = None) -> PartResult:
    """Exchange a value inside the network, at the site that validation problems choose, and see what the answer follows.

    Args:
        reasoner: A text reasoner.
        n: Number of test problems; half as many choose the site.
        layers: Blocks after which values are exchanged.
        seed: Seed of the problems, donors and random vectors.
        progress: Called with (sites done, sites in all).

    Returns:
        `models.words_follow`, and the table `follow`: each site on validation, then the chosen one on test problems, with
        its controls.
    """
    assert reasoner.task is not None
    validation = reasoner.think(reasoner.task.generate(n // 2, seed=seed, split="val"))
    sites = [(f"blocks.{layer}.hook_out", offset) for layer in layers for offset in OFFSETS]
    rows: list[dict[str, Any]] = []
    for number, (address, offset) in enumerate(sites):
        tried = interchange(reasoner, validation, address=address, offset=offset, edits=["other value"], seed=seed)
        rows.append({"problems": "validation", "address": address, "offset": offset, **_rates(tried, ["other value"])})
        if progress is not None:
            progress(number + 1, len(sites))
    # Ties go to the middle of the network.
    middle = reasoner.model.cfg.n_layers / 2
    best = max(rows, key=lambda row: (row["other value"]["followed"], -abs(_layer(row["address"]) - middle)))
    address, offset = best["address"], best["offset"]
    test = reasoner.think(reasoner.task.generate(n, seed=seed, split="test"))
    result = interchange(reasoner, test, address=address, offset=offset, seed=seed)
    edits = list(dict.fromkeys(result.table()["edit"]))
    rows.append({"problems": "test", "address": address, "offset": offset, **_rates(result, edits)})
    followed, same = result.rate("other value"), result.rate("same value", "changed")
    beside = ", ".join(f"{edit} followed {result.rate(edit).value:.3f}" for edit in edits if edit != "other value")
    return PartResult(
        {
            "models.words_follow": {
                "value": followed.value,
                "ci": list(followed.interval),
                "n": followed.n,
                "note": f"{address}, offset {offset:+d}, chosen on {len(validation)} validation problems from "
                f"{len(sites)} sites; a donor of the same value changes the answer in {same.value:.3f} "
                f"[{same.interval[0]:.3f}, {same.interval[1]:.3f}] of {same.n}; {beside}; verdict: {result.verdict().name}",
            }
        },
        {"follow": rows},
    )


def _rates(result: InterchangeResult, edits: Sequence[str]) -> dict[str, Any]:
    """Return how often the answer follows and changes after each edit, with intervals."""
    rates: dict[str, Any] = {}
    for edit in edits:
        followed, changed = result.rate(edit), result.rate(edit, "changed")
        rates[edit] = {
            **{"followed": followed.value, "followed_ci": list(followed.interval)},
            **{"changed": changed.value, "changed_ci": list(changed.interval), "n": changed.n},
        }
    return rates


def _layer(address: str) -> int:
    return int(address.split(".")[1])
