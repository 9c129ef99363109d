"""Donors of latents: for each step, thoughts of other problems that hold another value, or the same one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from interp.causal.metrics.latents.chains import DONOR, LatentChains, with_thought
from interp.traces import TraceSet

N_DONORS = 2


@dataclass(frozen=True)
class ThoughtDonors:
    """Thoughts to put in place of a step's.

    Attributes:
        keys: (trace, step) that each donor is of.
        traces: The donors. For continuous thoughts, the trace itself with the other problem's thought in its place, so
            that its states differ by the thought alone; else the other problem's trace.
        targets: Positions in the trace, for each donor.
        sources: Positions in the donor, for each donor.
    """

    keys: list[tuple[int, int]]
    traces: TraceSet
    targets: list[list[int]]
    sources: list[list[int]]

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield the changes that put each donor's thoughts in place, each donor in a run of its own."""
        for run, (t, _) in enumerate(self.keys):
            for target, source in zip(self.targets[run], self.sources[run], strict=True):
                yield {"run": run, "trace": t, "target": target, "donor": run, "source": source, "edit": DONOR}


@lru_cache(maxsize=4)
def thought_donors(chains: LatentChains, same: bool = False) -> ThoughtDonors | None:
    """Return up to two donors for each step; None where no step has one.

    Args:
        chains: The chains. Donors are of `chains.others`.
        same: Whether donors hold the step's own value, in place of another.
    """
    rng = Random(f"thoughts|{same}|{chains.seed}")
    chosen = []
    for t, k in chains.keys:
        problem = chains.traces[t].problem
        if k >= problem.n_steps:
            continue
        own, values = problem.steps[k].value, list(chains.task.values)
        if same:
            chosen += [((t, k), number) for number in chains.holders.get((problem.n_steps, k, own), [])[:N_DONORS]]
            continue
        rng.shuffle(values)
        others = [chains.holders.get((problem.n_steps, k, value), []) for value in values if value != own]
        others = [of for of in others if of]
        chosen += [((t, k), rng.choice(of[:N_DONORS])) for of in others[:N_DONORS]]
    return donors_from(chains, chains.others, chosen) if chosen else None


def donors_from(chains: LatentChains, pool: TraceSet, chosen: list[tuple[tuple[int, int], int]]) -> ThoughtDonors:
    """Return donors for chosen steps.

    Args:
        chains: The chains.
        pool: Traces of other problems.
        chosen: (trace, step from 0) and the number of its donor in `pool`.
    """
    keys, traces, targets, sources = [], [], [], []
    for (t, k), number in chosen:
        trace, donor = chains.traces[t], pool[number]
        pairs = list(
            zip(reversed(chains.value_positions(trace, k)), reversed(chains.value_positions(donor, k)), strict=False)
        )
        if chains.is_fed_back:
            target, source = pairs[0]
            first = donor.thought.index(1)
            donor, pairs = with_thought(trace, target, donor.latents[source - first]), [(target, target)]  # type: ignore[index]
        keys.append((t, k))
        traces.append(donor)
        targets.append([target for target, _ in pairs])
        sources.append([source for _, source in pairs])
    return ThoughtDonors(keys, TraceSet(traces), targets, sources)
