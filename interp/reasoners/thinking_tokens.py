"""`thinking-tokens`: one special token for each step of the chain of thought (Heima, arXiv 2501.19201, section 3).

Each step is compressed into one token of its own, `<CoT>(1)` to `<CoT>(K)`, replaced progressively, stage by
stage. The tokens are always the same, so nothing returns to the bottom of the network: what a thought holds is
in its hidden states, which an interpreter reads at the token, or one position earlier, where the token is
predicted (`interp.decoders.verbalizer`).
"""

from __future__ import annotations

from interp.errors import UsageError
from interp.problems import task as make_task
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.silent import SilentReasoner


class ThinkingTokenReasoner(SilentReasoner):
    """Feeds thinking token number k as thought k. A model knows as many of them as its task's longest problem needs."""

    kind = "thinking-tokens"

    @classmethod
    def words(cls, config: ReasonerConfig) -> list[str]:
        if config.task is None:
            raise UsageError(
                "thinking tokens are counted by a task's steps, but this reasoner names no task; set task."
            )
        most = config.n_thoughts(make_task(config.task).max_steps)
        return [cls.placeholder(config, k) for k in range(1, most + 1)]

    @classmethod
    def placeholder(cls, config: ReasonerConfig, thought: int) -> str:
        return config.thinking.format(thought)
