"""In-context task vectors: the state after worked examples that makes the model do the task without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.causal.known.word_pairs import WORD_PAIRS, Pairs
from interp.errors import UsageError, checked_count
from interp.models.address import Address
from interp.reasoners.interventions import Intervention, replace_with
from interp.reasoners.replayer import PartialTrace, ReplayBatch
from interp.runtime.progress import Progress
from interp.statistics.estimates import Estimate
from interp.traces import Channel

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

SHOTS, PROMPTS = 8, 10
FORM = "{} -> {}\n"
# The first position of a text is the attention sink of many models, so no word of a query may be there.
START = "\n"
_SPARE_EXAMPLES = 4  # pairs that examples are drawn from, beyond those of one prompt
_MIN_QUERIES = 6
#: What each query is answered after. `vector`: without examples, with the task vector put in.
CONDITIONS = (
    "examples",
    "no examples",
    "vector",
    "vector of another task",
    "vector of shuffled examples",
    "random vector",
)


def task_vectors(
    reasoner: Reasoner,
    pairs: Pairs = WORD_PAIRS,
    *,
    shots: int = SHOTS,
    seed: int = 0,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return how often a model gives the right word after worked examples, without them, and with a task vector instead.

    A task vector is the mean state, over ten prompts of `shots` examples and a query, at the query's last token, where
    the answer is predicted. It replaces the state at the last token of a query without examples, after one block. The
    examples are from `shots` + 4 of the pairs. A third of the other pairs choose the block, and the rest are reported.
    All prompts begin with a line break, because a word in the first position may be lost to the attention sink.

    Args:
        reasoner: The model. How it thinks does not matter.
        pairs: For each task its pairs of a word and its answer. An answer counts by its first token.
        shots: Worked examples of a prompt.
        seed: Seed of the split and of the examples.
        progress: Called with (tasks done, tasks in all).

    Returns:
        A row for each task: `task`, the chosen `layer`, `n` queries, and for each of `CONDITIONS` the share answered
        rightly, with `low` and `high` ends of its 95 % interval.

    Raises:
        UsageError: A task has too few pairs.

    References:
        Hendel et al. 2023, "In-Context Learning Creates Task Vectors", arXiv 2310.15916.
        Todd et al. 2023, "Function Vectors in Large Language Models", arXiv 2310.15213.
    """
    checked_count("shots", shots)
    tasks = {name: _Task(reasoner, name, rows, shots, seed + k) for k, (name, rows) in enumerate(pairs.items())}
    rng = np.random.default_rng(seed)
    table = []
    for done, (name, task) in enumerate(tasks.items(), start=1):
        layer = task.best_layer()
        vector = task.vectors[layer]
        other = next((one for one in tasks.values() if one is not task), None)
        noise = torch.from_numpy(rng.normal(size=len(vector))).to(vector)
        answered = {
            "examples": task.right_after_examples(),
            "no examples": task.right(task.test, None, layer),
            "vector": task.right(task.test, vector, layer),
            "vector of another task": None if other is None else task.right(task.test, other.vectors[layer], layer),
            "vector of shuffled examples": task.right(task.test, task.shuffled[layer], layer),
            "random vector": task.right(task.test, noise * vector.norm() / noise.norm(), layer),
        }
        row: dict[str, object] = {"task": name, "layer": layer, "n": len(task.test)}
        for condition, right in answered.items():
            estimate = _estimate(right)
            row |= {condition: estimate.value, f"{condition}, low": estimate.low, f"{condition}, high": estimate.high}
        table.append(row)
        if progress:
            progress(done, len(tasks))
    return pd.DataFrame(table)


def _estimate(right: np.ndarray | None) -> Estimate:
    if right is None:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    return Estimate.of_mean(right, np.arange(len(right)))


class _Task:
    """One task: its split, its vectors after every block, and what is right.

    Attributes:
        test: Pairs that are reported.
        vectors: The task vector after each block.
        shuffled: The same of prompts whose answers were shuffled.
    """

    def __init__(self, reasoner: Reasoner, name: str, pairs: Sequence[tuple[str, str]], shots: int, seed: int) -> None:
        n_examples = shots + _SPARE_EXAMPLES
        needed = n_examples + _MIN_QUERIES
        if len(pairs) < needed:
            raise UsageError(
                f"expected at least {needed} pairs of task {name!r} for {shots} examples a prompt, got {len(pairs)}; "
                "give more pairs, or fewer examples."
            )
        self._reasoner, self._shots, self._rng = reasoner, shots, np.random.default_rng(seed)
        order = [pairs[k] for k in self._rng.permutation(len(pairs))]
        first_test = n_examples + (len(order) - n_examples) // 3
        self._examples, self._choosing = order[:n_examples], order[n_examples:first_test]
        self.test = order[first_test:]
        prompts = [self._prompt_with_query(shuffle=False) for _ in range(PROMPTS)]
        self.vectors = self._mean_states(prompts)
        self.shuffled = self._mean_states([self._prompt_with_query(shuffle=True) for _ in range(PROMPTS)])

    def best_layer(self) -> int:
        """Return the block after which the vector helps most on the queries that choose; of equals the first."""
        shares = [self.right(self._choosing, vector, layer).mean() for layer, vector in enumerate(self.vectors)]
        return int(np.argmax(shares))

    def right_after_examples(self) -> np.ndarray:
        """Return for each test query whether it is answered rightly after worked examples."""
        return self._answered([self._examples_text() + _query(word) for word, _ in self.test], self.test)

    def right(self, queries: Sequence[tuple[str, str]], vector: Tensor | None, layer: int) -> np.ndarray:
        """Return for each query, without examples, whether it is answered rightly with a vector in its last state."""
        return self._answered([_query(word) for word, _ in queries], queries, vector, layer)

    def _examples_text(self, *, without: str | None = None, shuffle: bool = False) -> str:
        usable = [pair for pair in self._examples if pair[0] != without]
        chosen = [usable[k] for k in self._rng.choice(len(usable), min(self._shots, len(usable)), replace=False)]
        answers = [answer for _, answer in chosen]
        if shuffle:
            answers = answers[1:] + answers[:1]
        return "".join(FORM.format(word, answer) for (word, _), answer in zip(chosen, answers, strict=True))

    def _prompt_with_query(self, *, shuffle: bool) -> str:
        word = self._examples[self._rng.integers(len(self._examples))][0]
        return self._examples_text(without=word, shuffle=shuffle) + _query(word)

    def _mean_states(self, prompts: Sequence[str]) -> list[Float[Tensor, " d_model"]]:
        texts = [self._text(prompt) for prompt in prompts]
        n_layers = self._reasoner.model.cfg.n_layers
        sums: list[Tensor | float] = [0.0] * n_layers

        def add(layer: int, states: Tensor, batch: ReplayBatch) -> None:
            for b, k in enumerate(batch.traces.tolist()):
                sums[layer] = sums[layer] + states[b, len(texts[k]) - 1].float()

        hooks = {f"blocks.{k}.hook_out": partial(add, k) for k in range(n_layers)}
        self._reasoner.replayer.replay(texts, hooks=hooks)
        return [torch.as_tensor(total) / len(texts) for total in sums]

    def _answered(
        self, prompts: Sequence[str], pairs: Sequence[tuple[str, str]], vector: Tensor | None = None, layer: int = 0
    ) -> np.ndarray:
        texts = [self._text(prompt) for prompt in prompts]
        edits = []
        if vector is not None:
            rows = np.array([(k, len(text) - 1) for k, text in enumerate(texts)])
            edits = [
                Intervention(Address(f"blocks.{layer}.hook_out"), rows, replace_with(vector.expand(len(rows), -1)))
            ]
        chosen: dict[int, int] = {}

        def choose(states: Tensor, batch: ReplayBatch) -> None:
            for b, k in enumerate(batch.traces.tolist()):
                chosen[k] = int(self._reasoner.unembed(states[b, len(texts[k]) - 1]).argmax())

        self._reasoner.replayer.replay(texts, hooks={"ln_final.hook_out": choose}, interventions=edits)
        return np.array([chosen[k] == self._first_token(*pair) for k, pair in enumerate(pairs)])

    def _text(self, prompt: str) -> PartialTrace:
        tokenizer, config = self._reasoner.tokenizer, self._reasoner.config
        ids = list(tokenizer(START + prompt, add_special_tokens=False)["input_ids"])
        bos = tokenizer.bos_token_id
        ids = [bos, *ids] if config.bos and bos is not None else ids
        return PartialTrace(ids, [Channel.PROMPT] * len(ids), None)

    def _first_token(self, word: str, answer: str) -> int:
        """Return the first token of an answer behind its query."""
        encode = partial(self._reasoner.tokenizer, add_special_tokens=False)
        query, whole = encode(_query(word))["input_ids"], encode(f"{_query(word)} {answer}")["input_ids"]
        return int(whole[len(query)])


def _query(word: str) -> str:
    return FORM.format(word, "").rstrip()


def conditions_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `task_vectors` with each share and its interval as one text."""

    def cell(row: Mapping[str, float], condition: str) -> str:
        value, low, high = (row[f"{condition}{end}"] for end in ("", ", low", ", high"))
        return "not measured" if np.isnan(value) else f"{value:.2f} [{low:.2f}, {high:.2f}]"

    columns = {name: table[name] for name in ("task", "layer", "n")}
    shares = {condition: [cell(row, condition) for row in table.to_dict("records")] for condition in CONDITIONS}
    return pd.DataFrame({**columns, **shares})
