"""Depth recurrence: the unrolled model against an explicit loop, shared parameters, and its addresses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

import interp
from interp.errors import UsageError
from interp.models.cache import run_cached
from interp.models.recurrence import iteration_of, layer_order, read_out, state_after, states, stored_model, unroll
from interp.models.tokenizers import word_tokenizer
from interp.models.wrapping import wrap
from interp.problems import task
from interp.reasoners import ReasonerConfig
from interp.reasoners.curriculum import collate
from interp.reasoners.interventions import Intervention, replace_with
from interp.reasoners.recurrent import RecurrentCurriculum, RecurrentReasoner

CHAIN = task("chain")
FIRST, LAST, ITERATIONS = 1, 3, 3
CONFIG = ReasonerConfig(
    kind="recurrent", task="chain", begin=None, recurrent=(FIRST, LAST), iterations=ITERATIONS, max_answer_tokens=2
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    word_tokenizer(CHAIN.vocabulary()).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def small_model(n_vocabulary):
    """Four layers: one of prelude, two of core, one of coda."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=n_vocabulary, n_positions=32, n_embd=32, n_layer=4, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.2, attn_implementation="eager",
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


@pytest.fixture
def model(tokenizer):
    return small_model(len(tokenizer))


@pytest.fixture
def reasoner(model, tokenizer):
    return RecurrentReasoner(
        wrap(RecurrentReasoner.prepare(model, CONFIG), tokenizer), tokenizer, CONFIG, name="untrained", weights="none"
    )


@pytest.fixture
def ids():
    return torch.randint(7, 40, (3, 8), generator=torch.Generator().manual_seed(1))


def loop_written_out(model, ids, iterations):
    """The stored layers called one by one: prelude, core `iterations` times, coda, norm and unembedding."""
    hidden = model.transformer.wte(ids) + model.transformer.wpe(torch.arange(ids.shape[1]))
    mask = torch.full((ids.shape[1],) * 2, float("-inf")).triu(1)[None, None]
    prelude, core_a, core_b, coda = model.transformer.h
    hidden = prelude(hidden, attention_mask=mask)
    for _ in range(iterations):
        hidden = core_b(core_a(hidden, attention_mask=mask), attention_mask=mask)
    return model.lm_head(model.transformer.ln_f(coda(hidden, attention_mask=mask)))


@pytest.mark.parametrize("iterations", [1, 2, 5])
@torch.no_grad()
def test_unrolled_logits_equal_an_explicit_loop(model, ids, iterations):
    deep = unroll(model, FIRST, LAST, iterations)
    expected = loop_written_out(model, ids, iterations)
    torch.testing.assert_close(deep(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)
    every = states(model, ids, FIRST, LAST, iterations)
    assert len(every) == iterations + 1
    for k, state in enumerate(every):
        torch.testing.assert_close(read_out(model, state, LAST), loop_written_out(model, ids, k), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_cached_pass_equals_an_uncached_one(model, ids):
    """Every iteration has its own entries in the key-value cache."""
    deep = unroll(model, FIRST, LAST, 3)
    whole = deep(input_ids=ids, use_cache=False).logits
    out, cache = run_cached(deep, None, input_ids=ids[:, :5])
    assert len(cache.layers) == len(deep.transformer.h) == 8
    pieces = [out.logits]
    for k in range(5, 8):
        out, cache = run_cached(deep, cache, input_ids=ids[:, k : k + 1])
        pieces.append(out.logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-4, rtol=1e-4)


def test_repeated_layers_hold_the_same_parameters(model):
    deep = unroll(model, FIRST, LAST, 4)
    assert [block.attn.layer_idx for block in deep.transformer.h] == list(range(10))
    assert len(set(map(id, deep.transformer.h))) == 10, "modules of their own, or hooks could not tell them apart"
    assert {id(p) for p in deep.parameters()} == {id(p) for p in model.parameters()}
    assert sum(p.numel() for p in deep.parameters()) == sum(p.numel() for p in model.parameters())
    assert stored_model(deep) is model


def test_training_one_iteration_trains_them_all(model, ids):
    deep = unroll(model, FIRST, LAST, 3)
    before = model.transformer.h[1].mlp.c_fc.weight.detach().clone()
    deep(input_ids=ids).logits.square().mean().backward()
    gradient = model.transformer.h[1].mlp.c_fc.weight.grad.clone()
    model.zero_grad()
    loop_written_out(model, ids, 3).square().mean().backward()
    torch.testing.assert_close(gradient, model.transformer.h[1].mlp.c_fc.weight.grad, atol=1e-4, rtol=1e-3)
    torch.optim.SGD(deep.parameters(), lr=0.1).step()
    after = [deep.transformer.h[k].mlp.c_fc.weight for k in (1, 3, 5)]
    assert all(torch.equal(after[0], each) for each in after) and not torch.equal(after[0], before)


def test_every_layer_of_the_deep_model_has_an_iteration():
    order = layer_order(4, FIRST, LAST, 3)
    assert order == [0, 1, 2, 1, 2, 1, 2, 3]
    result = [iteration_of(f"blocks.{k}.hook_out", FIRST, LAST, 3) for k in range(8)]
    assert result == [0, 1, 1, 2, 2, 3, 3, None]
    assert iteration_of("embed.hook_out", FIRST, LAST, 3) == 0
    assert iteration_of("ln_final.hook_out", FIRST, LAST, 3) is None
    assert state_after(0, 0, 2).name == "blocks.0.hook_in" and state_after(0, 1, 3).name == "blocks.0.hook_out"
    for k in (1, 2, 3):
        address = state_after(k, FIRST, LAST)
        assert iteration_of(address, FIRST, LAST, 3) == k
        assert iteration_of(f"blocks.{address.layer + 1}.hook_in", FIRST, LAST, 3) in (k + 1, None)


@torch.no_grad()
def test_each_iteration_is_captured_at_its_address(reasoner):
    problems = [p for p in CHAIN.generate(60, seed=1) if p.n_steps == 3][:4]
    traces = reasoner.think(problems)
    result = {}
    reasoner.replay(
        traces,
        hooks={reasoner.state_after(k).name: lambda x, _, k=k: result.update({k: x.clone()}) for k in range(4)},
    )
    stored = stored_model(reasoner.model.original_model)
    width = result[1].shape[1]
    for row, trace in enumerate(traces):
        expected = states(stored, torch.tensor([trace.token_ids]), FIRST, LAST, 3)
        assert len(trace) <= width
        for k in range(4):
            torch.testing.assert_close(result[k][row, : len(trace)], expected[k][0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_later_iterations_use_a_state_that_is_swapped_in(reasoner):
    """Swapping the state after iteration 2 for another problem's, everywhere, gives that problem's answer."""
    problems = [p for p in CHAIN.generate(200, seed=1) if p.n_steps == 3][:12]
    traces = reasoner.think(problems)
    answers = [trace.answer for trace in traces]
    assert len(set(answers)) > 1, "all answers alike would make this test empty"
    ends = [trace.tokens.index("<eot>") for trace in traces]
    donors = np.roll(np.arange(12), 1)
    result = {}
    site = reasoner.state_after(2)
    reasoner.replay(traces, hooks={site.name: lambda x, batch: result.update(states=x.clone())})
    rows = np.array([(k, p) for k in range(12) for p in range(ends[k] + 1)])
    values = np.array([result["states"][donors[k], p].numpy() for k, p in rows])
    after = reasoner.think(problems, interventions=[Intervention(site, rows, replace_with(values))])
    first_tokens = [trace.answer.split()[:1] for trace in after]
    assert first_tokens == [answers[donors[k]].split()[:1] for k in range(12)]


@torch.no_grad()
def test_other_depths_keep_the_weights(reasoner, model):
    problems = CHAIN.generate(5, seed=2)
    for iterations in (1, 6):
        other = reasoner.with_iterations(iterations)
        assert other.config.iterations == iterations and other.weights == reasoner.weights
        for trace in other.think(problems):
            end = trace.tokens.index("<eot>")
            logits = loop_written_out(model, torch.tensor([trace.token_ids[: end + 1]]), iterations)[0, -1]
            if trace.answer:
                assert trace.token_ids[end + 1] == int(logits.argmax())
    again = reasoner.with_iterations(6).with_iterations(ITERATIONS)
    assert [t.token_ids for t in again.think(problems)] == [t.token_ids for t in reasoner.think(problems)]


def test_promises_of_the_loop(reasoner):
    problems = CHAIN.generate(9, seed=4)
    together = reasoner.think(problems)
    for other in (reasoner.think(problems, batch_size=1), reasoner.think(problems, padding_side="right")):
        for a, b in zip(together, other, strict=True):
            assert (a.token_ids, a.channel) == (b.token_ids, b.channel)
            torch.testing.assert_close(torch.tensor(a.logprob), torch.tensor(b.logprob), equal_nan=True)


def test_an_untrained_one_has_the_same_architecture(reasoner):
    blank = interp.random_init(reasoner)
    hf = blank.model.original_model
    assert blank.model.cfg.n_layers == 8 and blank.config == reasoner.config
    assert len(list(hf.parameters())) == len(list(reasoner.model.original_model.parameters()))
    assert sum(p.numel() for p in stored_model(hf).parameters()) == sum(
        p.numel() for p in stored_model(reasoner.model.original_model).parameters()
    )
    assert blank.weights != reasoner.weights
    blank.think(CHAIN.generate(2, seed=0))


def test_each_iteration_is_trained_on_the_value_it_should_reach(model, tokenizer):
    config = CONFIG.model_copy(update={"iterations": 4})
    problems = [p for p in CHAIN.generate(60, seed=1) if p.n_steps == 2][:3]
    lessons = [RecurrentCurriculum(config).lesson(p, 0) for p in problems]
    for problem, lesson in zip(problems, lessons, strict=True):
        one, two = (step.value for step in problem.steps)
        assert lesson.words == [*problem.question.split(), "<eot>", problem.answer, "<eos>"]
        assert lesson.extra == (problem.meta["start"], one, two, two, two)
    short = RecurrentCurriculum(config).lesson(problems[0], 1)
    assert short.extra == (problems[0].meta["start"], problems[0].steps[0].value), (
        "a stage of a curriculum runs fewer iterations"
    )
    batch = collate(lessons, tokenizer)
    by_hand = []
    for k in range(5):
        logits = loop_written_out(model, batch.ids, k)
        for row, lesson in enumerate(lessons):
            at = lesson.words.index("<eot>")
            log_p = logits[row].log_softmax(-1)
            by_hand.append(log_p[at, tokenizer.convert_tokens_to_ids(lesson.extra[k])])
            by_hand.append(log_p[at + 1, tokenizer.convert_tokens_to_ids("<eos>")])
    loss = RecurrentCurriculum(config).loss(model, batch)
    torch.testing.assert_close(loss, -torch.stack(by_hand).mean(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("block", [(2, 2), (3, 1), (0, 5), (-1, 2)])
def test_a_block_that_is_not_there_is_refused(model, block):
    with pytest.raises(UsageError, match=r"expected the iterated block inside layers 0 to 4 .* got \(.*\)"):
        unroll(model, *block, 2)


def test_wrong_uses_are_refused(model, reasoner):
    with pytest.raises(UsageError, match="iterations to be a whole number of at least 1, got 0"):
        unroll(model, FIRST, LAST, 0)
    with pytest.raises(UsageError, match="expected a model made by `unroll`, got another"):
        stored_model(model)
    with pytest.raises(UsageError, match=r"between 0 and 3, got 4.*with_iterations"):
        reasoner.state_after(4)
    graph = task("graph").generate(1, seed=0, split="test")[0]
    with pytest.raises(
        UsageError, match=r"the value before the first step: expected `start` .*, got none in task 'graph'"
    ):
        RecurrentCurriculum(CONFIG).lesson(graph, 0)
    with pytest.raises(UsageError, match="expected `recurrent` in the config"):
        RecurrentReasoner.prepare(model, CONFIG.model_copy(update={"recurrent": None}))
