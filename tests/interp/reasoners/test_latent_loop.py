"""Properties of the latent loop that hold for every kind of reasoner."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import interp
from interp.activations.loop import think_and_record
from interp.models.address import Address
from interp.models.fast_model import fast_model
from interp.organisms.catalog import recipes, standalone, weights_folder
from interp.organisms.training.model import save
from interp.organisms.training.train import resolve_function, train
from interp.problems import task as make_task
from interp.reasoners import REASONERS
from interp.reasoners.interventions import Intervention, identity
from interp.traces import Channel
from tests.interp.same_traces import assert_same_traces

TOLERANCE = 1e-4
# One organism of each kind keeps the promises here: a shipped one, on chains where there is one.
SHIPPED = [recipes()[name] for name in standalone()]
ORGANISMS = {recipe.kind: recipe.name for recipe in sorted(SHIPPED, key=lambda recipe: "chain" in recipe.task)}
ORGANISMS |= {
    recipes()[name].kind: name for name in ("chain-text", "chain-coconut", "chain-direct", "chain-pause-as-thought")
}


@pytest.fixture(scope="module", params=sorted(REASONERS))
def folder(request, tmp_path_factory):
    """The folder of a shipped organism, or of one that is trained briefly where none of its kind is shipped."""
    if request.param in ORGANISMS:
        return weights_folder(ORGANISMS[request.param])
    made = next(recipe for recipe in recipes().values() if recipe.kind == request.param)
    stages = tuple(stage.model_copy(update={"updates": 5}) for stage in made.stages)
    made = made.model_copy(update={"stages": stages, "batch_size": 8, "initial": None})
    out = tmp_path_factory.mktemp("taught") / made.name
    if made.trainer:
        resolve_function(made.trainer)(made, 0, out, None)
    else:
        save(train(made, 0), made, out)
    return out


@pytest.fixture(scope="module")
def reasoner(folder):
    return interp.load(folder)


@pytest.fixture(scope="module")
def problems(reasoner):
    result = reasoner.task.generate(24, seed=11, split="test")
    if reasoner.task.min_steps == reasoner.task.max_steps:
        # A task of one length by default is mixed with a shorter one, whatever the answers then are.
        shorter = make_task(reasoner.task.name, steps=reasoner.task.max_steps - 2)
        result = [*result[:12], *shorter.generate(12, seed=11, split="test")]
    lengths = {(len(problem.question.split()), problem.n_steps) for problem in result}
    assert len(lengths) > 1, "lengths must differ, or padding is not tested"
    return result


@pytest.fixture(scope="module")
def plain():
    """Hugging Face's own model and tokenizer of a folder, untouched by any wrapper."""
    loaded = {}

    def load(folder):
        if folder not in loaded:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
            loaded[folder] = (model.eval(), AutoTokenizer.from_pretrained(folder))
        return loaded[folder]

    return load


def final_states(reasoner, traces):
    """The final-norm state of every real position of every trace, by replay."""
    result = {}

    def keep(activations, batch):
        for b, k in enumerate(batch.traces.tolist()):
            result[k] = activations[b][batch.real[b]].clone()

    reasoner.replay(traces, hooks={"ln_final.hook_out": keep}, batch_size=16)
    return [result[k] for k in range(len(traces))]


def test_every_kind_has_a_recipe():
    kinds = {recipe.kind for recipe in recipes().values()}
    assert set(REASONERS) <= kinds, "a registered reasoner joins these tests by having an organism"


def test_batched_equals_single(reasoner, problems):
    together = reasoner.think(problems, batch_size=len(problems))
    alone = reasoner.think(problems, batch_size=1)
    assert_same_traces(together, alone, atol=TOLERANCE)


def test_left_padding_equals_right_padding(reasoner, problems):
    left = reasoner.think(problems, padding_side="left")
    right = reasoner.think(problems, padding_side="right")
    assert_same_traces(left, right, atol=TOLERANCE)


def test_thinking_is_deterministic(reasoner, problems):
    assert_same_traces(reasoner.think(problems, seed=5), reasoner.think(problems, seed=5), atol=TOLERANCE)


def test_sampled_thinking_depends_on_the_seed_and_not_on_the_batch(reasoner, problems):
    def answers(seed, **options):
        return [t.token_ids for t in reasoner.think(problems, seed=seed, temperature=3.0, **options)]

    assert answers(1) == answers(1, batch_size=7) == answers(1, padding_side="right")
    assert answers(1) != answers(2)
    greedy, cold = reasoner.think(problems), reasoner.think(problems, temperature=1e-6)
    assert [t.token_ids for t in cold] == [t.token_ids for t in greedy]


@pytest.mark.parametrize("which", ["plain", "wrapped"])
def test_attention_masks_and_positions_are_always_passed(reasoner, problems, monkeypatch, which):
    calls = []
    base = fast_model(reasoner.model).base if which == "plain" else reasoner.base
    nothing = [] if which == "plain" else [Intervention(Address("ln_final.hook_out"), np.empty((0, 2)), identity)]
    # Which masks a model takes is measured once, with a pass that has none; that has to lie before the watched passes.
    reasoner.think(problems, interventions=nothing)
    forward = base.forward

    def watched(*args, **kwargs):
        calls.append((kwargs.get("attention_mask"), kwargs.get("position_ids"), kwargs["inputs_embeds"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(base, "forward", watched)
    traces = reasoner.think(problems, interventions=nothing)
    reasoner.replay(traces, hooks={}, interventions=nothing)
    assert calls
    for given, positions, inputs in calls:
        assert given is not None and positions is not None
        new = inputs.shape[1]
        assert given.ndim == 2 or (given.ndim == 4 and new == 1)
        mask = given if given.ndim == 2 else given[:, 0, 0]
        assert mask.shape[0] == inputs.shape[0] and mask.shape[1] >= new
        # A real position counts the real positions before it, wherever the padding is.
        expected = (mask.cumsum(dim=1) - 1)[:, -new:]
        real = mask[:, -new:].bool()
        if not reasoner.shares_position:
            assert torch.equal(positions[real], expected[real])


def test_logits_equal_hugging_face(reasoner, folder, problems, plain):
    """Teacher-forced on the finished traces, without cache and without padding."""
    model = reasoner.prepare(plain(folder)[0], reasoner.config)
    traces = reasoner.think(problems[:12])
    for trace, states in zip(traces, final_states(reasoner, traces), strict=True):
        embeds = model.get_input_embeddings()(torch.tensor([trace.token_ids])).detach().clone()
        if trace.latents is not None:
            at = [k for k, channel in enumerate(trace.channel) if channel == Channel.LATENT]
            embeds[0, at] = torch.tensor(trace.latents)
        places, taken = [], 0  # a position that shares its number takes that of the next one that does not
        for channel in trace.channel:
            places.append(taken)
            taken += channel not in reasoner.shares_position
        with torch.no_grad():
            given = {"position_ids": torch.tensor([places]), "attention_mask": torch.ones(1, len(trace))}
            expected = model(inputs_embeds=embeds, use_cache=False, **given).logits[0]
            ours = reasoner.unembed(states)
        torch.testing.assert_close(ours, expected, atol=TOLERANCE, rtol=1e-4, check_device=False)


def test_what_the_loop_saw_is_what_a_replay_records(reasoner, problems):
    """Every position but the last answer token, which is written and never read while thinking."""
    seen: dict[tuple[int, int], torch.Tensor] = {}
    from interp.models.address import Address
    from interp.reasoners.interventions import Intervention

    traces = reasoner.think(problems[:16])
    rows = np.array([(k, p) for k, trace in enumerate(traces) for p in range(len(trace))])
    for name in ("blocks.0.hook_in", "blocks.1.hook_out", "ln_final.hook_out"):
        seen.clear()

        def look(found, at, seen=seen):
            for row, state in zip(at, found, strict=True):
                seen[tuple(rows[row])] = state.clone()
            return found

        reasoner.think(problems[:16], interventions=[Intervention(Address(name), rows, look)])
        replayed = {}

        def keep(activations, batch, replayed=replayed):
            for b, k in enumerate(batch.traces.tolist()):
                for p in range(int(batch.real[b].sum())):
                    replayed[k, p] = activations[b, p].clone()

        reasoner.replay(traces, hooks={name: keep}, batch_size=16)
        missing = set(map(tuple, rows)) - set(seen)
        assert not missing, f"the loop never passed {sorted(missing)[:5]}"
        for key, state in seen.items():
            torch.testing.assert_close(state, replayed[key], atol=TOLERANCE, rtol=1e-4)


def coconut_reference(model, tokenizer, config, problem):
    """Coconut as in section 3 of arXiv 2412.06769: one sequence, no cache, no batch, no padding.

    Each round runs the whole sequence so far and appends the last position's last hidden state (after the
    final norm) as the next input embedding; then the end marker; then greedy decoding.
    """
    embed = model.get_input_embeddings()

    def of(words):
        return embed(torch.tensor([tokenizer.convert_tokens_to_ids(words)]))

    sequence = of([*problem.question.split(), config.begin])
    thoughts = []
    for _ in range(problem.n_steps):
        hidden = model(inputs_embeds=sequence, output_hidden_states=True, use_cache=False).hidden_states[-1]
        thought = hidden[:, -1:] * config.latent_scale
        thoughts.append(thought[0, 0])
        sequence = torch.cat([sequence, thought], dim=1)
    sequence = torch.cat([sequence, of([config.end])], dim=1)
    answer = []
    while len(answer) < config.max_answer_tokens:
        token = int(model(inputs_embeds=sequence, use_cache=False).logits[0, -1].argmax())
        if token == tokenizer.convert_tokens_to_ids(config.eos):
            break
        answer.append(token)
        sequence = torch.cat([sequence, embed(torch.tensor([[token]]))], dim=1)
    return torch.stack(thoughts), tokenizer.decode(answer)


@torch.no_grad()
def test_coconut_equals_an_uncached_reference(plain):
    reasoner = interp.load("chain-coconut")
    model, tokenizer = plain(weights_folder("chain-coconut"))
    problems = reasoner.task.generate(24, seed=5, split="test")
    for trace, problem in zip(reasoner.think(problems), problems, strict=True):
        thoughts, answer = coconut_reference(model, tokenizer, reasoner.config, problem)
        torch.testing.assert_close(torch.tensor(trace.latents), thoughts, atol=TOLERANCE, rtol=1e-4)
        assert trace.answer == answer


def test_a_thought_is_the_previous_final_norm_state():
    reasoner = interp.load("chain-coconut")
    problems = reasoner.task.generate(20, seed=2, split="test")
    traces = reasoner.think(problems)
    for trace, states in zip(traces, final_states(reasoner, traces), strict=True):
        at = [k for k, channel in enumerate(trace.channel) if channel == Channel.LATENT]
        expected = states[[k - 1 for k in at]] * reasoner.config.latent_scale
        torch.testing.assert_close(torch.tensor(trace.latents), expected.cpu(), atol=TOLERANCE, rtol=1e-4)


def test_thoughts_stop_where_the_problem_stops():
    """In one batch of mixed lengths, every problem gets as many thoughts as it has steps."""
    reasoner = interp.load("chain-coconut")
    problems = reasoner.task.generate(60, seed=9, split="test")
    for trace in reasoner.think(problems, batch_size=60):
        latents = [k for k, channel in zip(trace.step, trace.channel, strict=True) if channel == Channel.LATENT]
        assert latents == list(range(1, trace.problem.n_steps + 1))
        prompt = trace.channel.index(Channel.LATENT) - 1
        assert set(trace.channel[:prompt]) == {Channel.PROMPT}, "all before the begin marker is the prompt"
        assert set(trace.step[:prompt]) == set(trace.thought[:prompt]) == {0}
        assert trace.tokens[-1 - len(trace.answer.split())] == reasoner.config.end


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "4 +3 zebra ?"}, "does not know 'zebra'"),
        ({"question": ""}, "empty question"),
        ({"question": "4 " + "+3 " * 80 + "?"}, "more than the 64 positions"),
    ],
)
def test_bad_questions_are_refused(change, message):
    from dataclasses import replace

    from interp.errors import UsageError

    reasoner = interp.load("chain-coconut")
    problem = replace(reasoner.task.generate(1, seed=0, split="test")[0], **change)
    with pytest.raises(UsageError, match=message):
        reasoner.think([problem])


def test_no_problems_is_an_error():
    from interp.errors import UsageError

    with pytest.raises(UsageError, match="at least one problem to think about, got none"):
        interp.load("chain-text").think([])


def test_text_that_never_ends_is_cut_at_the_models_positions():
    """An untrained model never stops by itself; it is cut inside its positions, and the trace is complete."""
    reasoner = interp.random_init(interp.load("chain-text"))
    traces = reasoner.think(reasoner.task.generate(8, seed=0, split="test"))
    assert max(map(len, traces)) <= reasoner.network.max_positions
    assert all(Channel.SPECIAL in trace.channel for trace in traces)


def test_the_fast_loop_equals_the_wrapped_loop(reasoner, problems):
    """Without hooks the fast model runs; an intervention on no row runs the wrapped model."""
    plain = reasoner.think(problems, batch_size=5)
    nothing = [Intervention(Address("ln_final.hook_out"), np.empty((0, 2)), identity)]
    assert_same_traces(plain, reasoner.think(problems, interventions=nothing), atol=TOLERANCE)


def test_what_is_recorded_while_thinking_is_what_a_replay_records(reasoner, problems):
    """In several batches, the last one short, with padding on either side."""
    for side, changed in (
        ("left", ()),
        ("right", [Intervention(Address("ln_final.hook_out"), np.empty((0, 2)), identity)]),
    ):
        traces, rows = think_and_record(
            reasoner, problems, sites="resid", batch_size=5, padding_side=side, interventions=changed
        )
        replayed = {}
        for address in rows:
            found = replayed[address] = [None] * len(traces)

            def keep(activations, batch, found=found):
                for b, k in enumerate(batch.traces.tolist()):
                    found[k] = activations[b][batch.real[b]].clone()

            reasoner.replay(traces, hooks={address.name: keep})
        for address, each in rows.items():
            for trace, ours, theirs in zip(traces, each, replayed[address], strict=True):
                assert len(ours) == len(trace)
                torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0, check_device=False)


def test_problems_without_steps_get_no_thoughts_and_a_warning(coconut: interp.Reasoner) -> None:
    problems = [replace(problem, steps=()) for problem in coconut.task.generate(3, seed=1, split="test")]
    problems += coconut.task.generate(2, seed=2, split="test")
    with pytest.warns(UserWarning, match=r"3 of 5 problems have no steps, so it answers them without a thought; give"):
        traces = coconut.think(problems)
    assert [Channel.LATENT in trace.channel for trace in traces] == [False] * 3 + [True] * 2
    with pytest.warns(UserWarning, match="3 of 5 problems have no steps"):
        next(iter(coconut.thinking(problems)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (fixed,) = coconut.with_config(thoughts=2).think(problems[:1])
        coconut.think_steps(problems[3:], 0)  # no thoughts are asked for
    cells = zip(fixed.channel, fixed.thought, fixed.step, strict=True)
    thoughts = [(thought, step) for channel, thought, step in cells if channel == Channel.LATENT]
    assert thoughts == [(1, 0), (2, 0)], "thoughts of a problem without steps belong to no step"
