"""The ablation battery: each arm against a plain forward pass in which the same vectors are fed, and its verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import interp
from interp import causal
from interp.causal.ablation import LATENT_ARMS, _frozen, _shuffled
from interp.causal.content import CLAIMS, _decide
from interp.causal.patching.patch import EVERYTHING, norm_matched_noise
from interp.errors import UsageError
from interp.organisms.catalog import weights_folder
from interp.problems.base import Problem
from interp.traces import Trace, TraceSet

Vectors = Sequence[np.ndarray]


def answers_when_fed(folder: Path, reasoner: interp.Reasoner, traces: Sequence[Trace], fed: Vectors) -> list[str]:
    """What Hugging Face's own model answers, token by token, after each trace's prompt with other thoughts in it."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    embed, answers = model.get_input_embeddings(), []
    for trace, thoughts in zip(traces, fed, strict=True):
        begins = trace.channel.index("answer")
        inputs = embed(torch.tensor(trace.token_ids[:begins])).detach()
        inputs[[k for k, channel in enumerate(trace.channel) if channel == "latent"]] = torch.as_tensor(thoughts)
        ids: list[int] = []
        while len(ids) < reasoner.config.max_answer_tokens:
            with torch.no_grad():
                whole = torch.cat([inputs, embed(torch.tensor(ids, dtype=torch.long))])
                choice = int(model(inputs_embeds=whole[None]).logits[0, -1].argmax())
            if choice == reasoner.tokenizer.eos_token_id:
                break
            ids.append(choice)
        answers.append(reasoner.tokenizer.decode(ids).strip())
    return answers


def fed_in_arm(arm: str, traces: Sequence[Trace]) -> Vectors:
    """The vectors that an arm feeds as thoughts, from the recorded ones."""
    latents = [trace.latents for trace in traces]
    owners = np.concatenate([[k] * len(part) for k, part in enumerate(latents)])
    numbers = np.concatenate([np.arange(1, len(part) + 1) for part in latents])
    flat = torch.tensor(np.concatenate(latents))
    moved = {
        "own": lambda: flat,
        "zero": lambda: torch.zeros_like(flat),
        "noise": lambda: norm_matched_noise(flat, 0),
        "mean": lambda: torch.stack([flat[numbers == number].mean(dim=0) for number in numbers]),
        "shuffled": lambda: flat[_shuffled(owners, 0)],
        "frozen": lambda: flat[_frozen(owners, numbers, 1)],
    }[arm]()
    return [moved[owners == k].numpy() for k in range(len(latents))]


@pytest.fixture(scope="module")
def rotary(model_folder: Callable[..., Path]) -> tuple[Path, interp.Reasoner]:
    """A model with rotary positions and random weights, made to think in fed-back states."""
    folder = model_folder("llama")
    config = {"kind": "continuous", "begin": "<think>", "end": "</think>", "latent": "<pad>", "thoughts": 4}
    return folder, interp.load(folder, reasoner={**config, "max_answer_tokens": 8})


@pytest.mark.parametrize("arm", ["own", "zero", "mean", "noise", "shuffled", "frozen"])
@pytest.mark.parametrize("positions", ["absolute", "rotary"])
def test_an_arm_answers_what_a_plain_model_does_that_is_fed_its_vectors(
    arm: str,
    positions: str,
    coconut: interp.Reasoner,
    traces: TraceSet,
    rotary: tuple[Path, interp.Reasoner],
    asked: Callable[..., list[Problem]],
) -> None:
    """The position embedding stays at its position, also where a vector moves to another one."""
    if positions == "absolute":
        folder, reasoner, problems = weights_folder("chain-coconut"), coconut, traces.problems[:24]
    else:
        (folder, reasoner), problems = rotary, asked(12)
    thought = reasoner.think(problems)
    table = causal.ablate(reasoner, problems, arms=[arm]).table()
    table = table[table["arm"] == arm]
    recipients = [thought[k] for k in table["trace"]]
    expected = answers_when_fed(folder, reasoner, recipients, fed_in_arm(arm, recipients))
    assert table["answer"].tolist() == expected
    # Each arm must be able to change answers, or it shows nothing.
    assert (table["changed"].mean() > 0.4) == (arm != "own")


def test_reordered_thoughts_give_the_value_of_the_thought_that_now_comes_last(
    coconut: interp.Reasoner, traces: TraceSet
) -> None:
    """Each fed-back vector holds the value of its step, and the answer is read from the last one."""
    battery = causal.ablate(coconut, traces.problems, arms=["shuffled", "frozen"])
    table, problems = battery.table(), traces.problems
    shuffled, frozen = (table[table["arm"] == arm] for arm in ("shuffled", "frozen"))
    assert shuffled["changed"].mean() > 0.85
    earlier = [{s.value for s in problems[row.trace].steps[:-1]} for row in shuffled.itertuples()]
    assert np.mean([row.answer in values for row, values in zip(shuffled.itertuples(), earlier, strict=True)]) > 0.98
    first = [problems[row.trace].steps[0].value for row in frozen.itertuples()]
    assert np.mean([answer == value for answer, value in zip(frozen["answer"], first, strict=True)]) > 0.98


def test_every_arm_changes_answers_where_a_thought_is_computed_and_not_fed() -> None:
    """Thinking tokens are always the same; what is replaced is what was computed at them."""
    thinker = interp.load("chain3-thinking-tokens")
    battery = causal.ablate(thinker, thinker.task.generate(60, seed=132, split="test"))
    table = battery.summary().set_index("arm")
    assert battery.address == EVERYTHING and list(table.index) == list(LATENT_ARMS)
    assert table.loc["own", "changed"] == 0
    assert (table.drop(index="own")["changed"] > 0.35).all()


def test_the_battery_finds_content_in_continuous_thoughts(coconut: interp.Reasoner, traces: TraceSet) -> None:
    battery = causal.ablate(coconut, traces.problems[:80])
    table = battery.summary().set_index("arm")
    assert list(table.index) == list(LATENT_ARMS)
    assert table.loc["own", "changed"] == 0, "a problem's own thoughts put back change nothing"
    assert (table.drop(index="own")["accuracy"] < 0.4).all()
    content = causal.content_or_compute(battery)
    assert content.verdict == "content" and content.claim == CLAIMS["content"] and content.share > 0.6
    with pytest.raises(UsageError, match=r"expected the arms own, other problem, dropped.*got a battery without"):
        causal.content_or_compute(causal.ablate(coconut, traces.problems[:30], arms=["zero"]))
    with pytest.raises(UsageError, match=r"expected a known arm for continuous reasoners, got 'zeros'.*'zero'"):
        causal.ablate(coconut, traces.problems[:30], arms=["zeros"])


def test_an_arm_is_measured_where_it_has_something_to_move(coconut: interp.Reasoner, traces: TraceSet) -> None:
    most = max(max(trace.thought) for trace in traces)
    battery = causal.ablate(coconut, traces.problems, arms=["frozen"], frozen_after=most - 1)
    assert {trace.problem.n_steps for trace in map(traces.__getitem__, battery.right("frozen").index)} == {most}
    with pytest.raises(UsageError, match=rf"problems with {most + 1} thoughts or more for the arm 'frozen', got none"):
        causal.ablate(coconut, traces.problems, arms=["frozen"], frozen_after=most)


def test_donors_of_another_length_are_moved_to_the_recipients_positions(
    rotary: tuple[Path, interp.Reasoner], model_folder: Callable[..., Path], asked: Callable[..., list[Problem]]
) -> None:
    """Questions of a user's own differ in length; their thoughts are fed as they are, wherever they stand."""
    folder = model_folder("gpt2")
    reasoner = interp.load(folder, reasoner=rotary[1].config.model_dump())
    thought = reasoner.think(asked(12))
    assert len({trace.channel.count("prompt") for trace in thought}) > 3
    table = causal.ablate(reasoner, asked(12), arms=["other problem"]).table()
    table = table[table["arm"] == "other problem"]
    assert len(table) == 12
    own = [thought[k] for k in table["trace"]]
    possible = [answers_when_fed(folder, reasoner, [t] * 12, [other.latents for other in thought]) for t in own[:4]]
    for k, answers in enumerate(possible):
        assert table["answer"].iloc[k] in answers[:k] + answers[k + 1 :]


def test_a_text_whose_words_matter_is_content() -> None:
    writer = interp.load("chain-text")
    battery = causal.ablate(writer, writer.task.generate(60, seed=4, split="test"))
    assert causal.content_or_compute(battery).verdict == "content" and battery.address == "text"


@pytest.mark.parametrize(
    ("delta", "dropped", "control", "expected"),
    [
        ([0.5, 0.6], [0.5, 0.6], [0.7, 0.9], "content"),
        ([-0.02, 0.03], [0.5, 0.6], [0.7, 0.9], "compute"),
        ([-0.02, 0.03], [-0.02, 0.02], [0.7, 0.9], "unused"),
        ([-0.02, 0.03], [0.05, 0.2], [0.7, 0.9], "undecided"),
        ([0.05, 0.15], [0.5, 0.6], [0.7, 0.9], "undecided"),
        ([0.5, 0.6], [0.5, 0.6], [0.0, 0.3], "undecided"),
    ],
)
def test_content_or_compute_is_said_only_where_intervals_can(delta, dropped, control, expected) -> None:  # type: ignore[no-untyped-def]
    assert _decide(delta, dropped, control, 0.1)[0] == expected
