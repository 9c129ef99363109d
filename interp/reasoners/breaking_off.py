"""Breaking off: end silent thinking after a few thoughts, and let the reasoner go on in text.

A reasoner that was taught its steps one after another (Coconut's curriculum, arXiv 2412.06769, section 3) has learned to
write out the steps that are not hidden. So what it writes after k thoughts says, in its own words, where it stands.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from interp.errors import UsageError
from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.reasoners.rollout import Rollout
from interp.reasoners.silent import SilentReasoner
from interp.traces import Channel, TraceSet


def break_off(
    reasoner: Reasoner, problems: Sequence[Problem], thoughts: Sequence[int], *, words: int, batch_size: int = 256
) -> TraceSet:
    """What the reasoner writes, greedily, after so many silent thoughts of each problem: at most `words` tokens.

    They are the traces' visible thought; nothing is answered. Raises `UsageError` for reasoners whose thoughts are not
    silent, and where the numbers of problems and thoughts differ.
    """
    if not isinstance(reasoner, SilentReasoner):
        raise UsageError(f"only silent thinking can be broken off, but {reasoner.name} thinks in {reasoner.kind}.")
    if len(problems) != len(thoughts) or any(n < 0 for n in thoughts):
        raise UsageError(f"each problem needs a number of thoughts, but {len(problems)} and {len(thoughts)} came.")
    given = copy.copy(reasoner)

    def write_on(rollout: Rollout, batch: Sequence[Problem]) -> None:
        given.think_silently(rollout, batch, [thoughts[k] for k in rollout.where.traces.tolist()])
        stops = [given.token_id(each) for each in (given.config.end, given.config.eos) if each]
        writing = torch.ones(len(batch), dtype=torch.bool)
        for number in range(words):
            ids = rollout.choose()
            writing = writing & ~torch.isin(ids, torch.tensor(stops)) & (rollout.room > 0)
            if not writing.any():
                return
            rollout.feed(channel=Channel.THOUGHT, ids=ids, active=writing, thought=number + 1, sampled=True)

    given._think_batch = write_on  # type: ignore[method-assign, assignment]
    return given.think(problems, batch_size=batch_size)
