"""Self-reasoning tokens: attention against a slow reference, layout, and gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from interp.models.fast_model import fast_model
from interp.models.stop_gradient_attention import same_step, stop_gradient_attention, use_stop_gradients
from interp.models.tokenizers import word_tokenizer
from interp.models.wrapping import wrap
from interp.problems import task
from interp.reasoners import ReasonerConfig
from interp.reasoners.curriculum import LessonBatch, collate, next_token_loss
from interp.reasoners.self_reasoning import SelfReasoner, SelfReasoningCurriculum, layout, ordinary_logits
from interp.reasoners.text import TextReasoner
from interp.traces import Channel

CONFIG = ReasonerConfig(kind="self-reasoning", task="chain", reasoning_tokens=2, max_thought_tokens=6)
CHAIN = task("chain")


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer([*CHAIN.vocabulary(), *SelfReasoningCurriculum(CONFIG).words()])


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=48, n_embd=32, n_layer=2, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.3, attn_implementation="eager",
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="module")
def reasoner(model, tokenizer, tmp_path_factory):
    import copy

    return SelfReasoner(wrap(copy.deepcopy(model), tokenizer), tokenizer, CONFIG, name="untrained", weights="none")


@pytest.fixture
def batch(tokenizer):
    problems = [p for p in CHAIN.generate(60, seed=1) if p.n_steps == 4][:3]
    return collate([SelfReasoningCurriculum(CONFIG).lesson(problem, 0) for problem in problems], tokenizer)


def slow_attention(query, key, value, stopped, scaling):
    """One query after another, with explicit scores, softmax and sums; stopped keys and values are detached."""
    out = torch.zeros(query.shape[0], query.shape[2], query.shape[1], query.shape[3])
    for b in range(query.shape[0]):
        for h in range(query.shape[1]):
            for q in range(query.shape[2]):
                scores, values = [], []
                for k in range(q + 1):
                    cut = bool(stopped[b, 0, q, k])
                    this_key, this_value = key[b, h, k], value[b, h, k]
                    scores.append((query[b, h, q] * (this_key.detach() if cut else this_key)).sum() * scaling)
                    values.append(this_value.detach() if cut else this_value)
                weights = torch.stack(scores).exp()
                weights = weights / weights.sum()
                out[b, q, h] = sum(w * v for w, v in zip(weights, values, strict=True))
    return out


def causal(n):
    return torch.full((n, n), torch.finfo(torch.float32).min).triu(1)[None, None]


@given(
    pattern=st.lists(st.booleans(), min_size=2, max_size=9),
    seed=st.integers(0, 10_000),
    scaling=st.sampled_from([None, 0.3, 1.0]),
)
@settings(max_examples=25, deadline=None)
def test_the_attention_equals_a_slow_reference_in_values_and_gradients(pattern, seed, scaling):
    torch.manual_seed(seed)
    n, d = len(pattern), 5
    silent = torch.tensor([pattern, pattern[::-1]])
    places = torch.cumsum((~silent).long(), 1) - (~silent).long()
    stopped = same_step(places, silent)
    ours = [torch.randn(2, 3, n, d, requires_grad=True) for _ in range(3)]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    weight = torch.randn(2, n, 3, d)
    out, _ = stop_gradient_attention(torch.nn.Module(), *ours, causal(n), scaling=scaling, stopped=stopped)
    slow = slow_attention(*theirs, stopped, d**-0.5 if scaling is None else scaling)
    torch.testing.assert_close(out, slow, atol=1e-5, rtol=1e-5)
    (out * weight).sum().backward()
    (slow * weight).sum().backward()
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, reference.grad, atol=1e-5, rtol=1e-4)


def test_same_step_names_reasoning_keys_of_the_querys_own_step_and_nothing_else():
    #               q  r  r  t  r  r  t
    silent = torch.tensor([[0, 1, 1, 0, 1, 1, 0]]).bool()
    places = torch.tensor([[0, 1, 1, 1, 2, 2, 2]])
    stopped = same_step(places, silent)[0, 0].tril()
    pairs = {(int(q), int(k)) for q, k in stopped.nonzero()}
    assert pairs == {(2, 1), (3, 1), (3, 2), (5, 4), (6, 4), (6, 5)}


def test_values_are_those_of_eager_attention_to_the_last_bit(model, batch):
    silent, places, _ = layout(batch.ids, batch.extra[0])
    inputs = {"input_ids": batch.ids, "position_ids": places, "attention_mask": torch.ones_like(batch.ids)}
    plain = model(**inputs).logits
    with use_stop_gradients(model):
        stopping = model(**inputs, stopped=same_step(places, silent)).logits
    assert torch.equal(plain, stopping)
    assert model.config._attn_implementation == "eager", "the model must be left as it was"


def test_without_stopped_pairs_gradients_are_those_of_eager_attention(model, batch):
    grads = []
    for stopping in (False, True):
        model.zero_grad()
        with use_stop_gradients(model) if stopping else torch.enable_grad():
            model(input_ids=batch.ids, attention_mask=torch.ones_like(batch.ids)).logits.square().sum().backward()
        grads.append({name: p.grad.clone() for name, p in model.named_parameters()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], atol=1e-3, rtol=1e-4, msg=name)


def test_the_attention_is_restored_when_the_pass_fails(model):
    with pytest.raises(RuntimeError, match="on purpose"), use_stop_gradients(model):
        raise RuntimeError("on purpose")
    assert model.config._attn_implementation == "eager"


def loss_at(model, batch, step, embedded, stop=True):
    """The loss on the text token that follows text token `step`, given the reasoning tokens' input embeddings."""
    silent, places, _ = layout(batch.ids, batch.extra[0])
    inputs = torch.where(silent[:, :, None], embedded, model.transformer.wte(batch.ids).detach())
    keywords = {"inputs_embeds": inputs, "position_ids": places, "attention_mask": torch.ones_like(batch.ids)}
    with use_stop_gradients(model):
        extra = {"stopped": same_step(places, silent)} if stop else {}
        logits = model(**keywords, **extra).logits
    text = [int(c) for c in (~silent[0]).nonzero()[:, 0] if c >= batch.first_thought]
    return torch.nn.functional.cross_entropy(logits[:, text[step]], batch.ids[:, text[step + 1]])


def test_only_later_tokens_train_a_reasoning_token(model, batch):
    """The +1 loss depends on the reasoning tokens of its step and gives them no gradient; the +2 loss gives one."""
    silent, _, _ = layout(batch.ids, batch.extra[0])
    columns = silent[0].nonzero()[:, 0].tolist()
    of_step = [columns[2 * k : 2 * k + 2] for k in range(len(columns) // 2)]
    for step in range(3):
        embedded = model.transformer.wte(batch.ids).detach().clone().requires_grad_()
        for ahead in (1, 2, 3):
            if step + ahead > 4:
                continue
            (grad,) = torch.autograd.grad(loss_at(model, batch, step + ahead - 1, embedded), embedded)
            result = grad[:, of_step[step]]
            assert bool(result.abs().max() > 1e-6) == (ahead > 1), (step, ahead)
            if ahead == 1:
                assert result.abs().max() == 0.0
                (ordinary,) = torch.autograd.grad(loss_at(model, batch, step, embedded, stop=False), embedded)
                assert ordinary[:, of_step[step]].abs().max() > 1e-6, "the control must train them at once"
        moved = embedded.detach().clone()
        moved[:, of_step[step]] += torch.randn(32, generator=torch.Generator().manual_seed(step))
        with torch.no_grad():
            difference = loss_at(model, batch, step, moved) - loss_at(model, batch, step, embedded)
        assert abs(float(difference)) > 1e-4, "the forward pass must depend on the step's own reasoning tokens"


def test_layout_shares_positions_and_reads_at_the_text_token_before(tokenizer):
    problem = next(p for p in CHAIN.generate(40, seed=1) if p.n_steps == 2)
    lesson = SelfReasoningCurriculum(CONFIG).lesson(problem, 0)
    n = len(problem.question.split()) + 1
    r1, r2 = "<reason>(1)", "<reason>(2)"
    first, second = (step.text for step in problem.steps)
    assert lesson.words[n:] == [r1, r2, first, r1, r2, second, r1, r2, "<eot>", problem.answer, "<eos>"]
    assert [w for w, s in zip(lesson.words, lesson.scored, strict=True) if s] == [
        first, second, "<eot>", problem.answer, "<eos>",
    ]  # fmt: skip
    batch = collate([lesson], tokenizer)
    silent, places, before = layout(batch.ids, batch.extra[0])
    assert places[0, n:].tolist() == [n, n, n, n + 1, n + 1, n + 1, n + 2, n + 2, n + 2, n + 3, n + 4]
    assert before[0, n:].tolist() == [n - 1, n - 1, n - 1, n + 2, n + 2, n + 2, n + 5, n + 5, n + 5, n + 8, n + 9]
    assert silent[0].sum() == 6


@pytest.mark.parametrize("read", ["text", "reasoning"])
def test_the_training_loss_is_that_of_the_predictions_made_while_thinking(reasoner, model, tokenizer, read):
    """Teacher-forced on what the reasoner itself wrote, so training and thinking are the same computation."""
    config = CONFIG.model_copy(update={"reasoning_read": read})
    thinker = SelfReasoner(reasoner.model, tokenizer, config, name="untrained", weights="none")
    for trace in thinker.think(CHAIN.generate(6, seed=3), batch_size=3):
        text = [k for k, c in enumerate(trace.channel) if c in (Channel.THOUGHT, Channel.ANSWER)]
        ids = torch.tensor([trace.token_ids])
        extra = torch.tensor([tokenizer.convert_tokens_to_ids(SelfReasoningCurriculum(config).words())])
        scored = torch.zeros(ids.shape)
        scored[0, text] = 1.0
        batch = LessonBatch(ids, scored, 0, 0, extra)
        with torch.no_grad():
            loss = next_token_loss(SelfReasoningCurriculum(config).logits(model, batch), batch)
            ordinary = next_token_loss(ordinary_logits(model, batch, config), batch)
        written = torch.tensor([trace.logprob[k] for k in text])
        torch.testing.assert_close(float(loss), -float(written.mean()), atol=1e-4, rtol=1e-4)
        assert loss == ordinary, "the control differs in gradients alone"


def test_a_trace_has_reasoning_tokens_before_every_text_token_of_the_thought(reasoner):
    for trace in reasoner.think(CHAIN.generate(8, seed=2)):
        start = trace.tokens.index("<bot>") + 1
        end = trace.tokens.index("<eot>")
        inside = list(zip(trace.channel[start:end], trace.tokens[start:end], trace.thought[start:end], strict=True))
        for k, (channel, token, thought) in enumerate(inside, 1):
            assert thought == k, "thoughts are numbered through, text and silent ones alike"
            assert (channel == Channel.LATENT) == (k % 3 != 0)
            assert channel != Channel.LATENT or token == f"<reason>({k % 3})"
        assert trace.latents is None, "nothing is fed back: a replay finds the tokens' own embeddings"


def promises(reasoner, problems):
    together = reasoner.think(problems, batch_size=len(problems))
    for other in (
        reasoner.think(problems, batch_size=1),
        reasoner.think(problems, batch_size=3, padding_side="right"),
    ):
        for a, b in zip(together, other, strict=True):
            assert (a.token_ids, a.channel, a.step, a.thought) == (b.token_ids, b.channel, b.step, b.thought)
            torch.testing.assert_close(torch.tensor(a.entropy), torch.tensor(b.entropy), equal_nan=True)
            torch.testing.assert_close(torch.tensor(a.logprob), torch.tensor(b.logprob), equal_nan=True)


@pytest.mark.parametrize("read", ["text", "reasoning"])
def test_batched_equals_single_and_left_equals_right_padding(reasoner, tokenizer, read):
    config = CONFIG.model_copy(update={"reasoning_read": read})
    promises(
        SelfReasoner(reasoner.model, tokenizer, config, name="untrained", weights="none"), CHAIN.generate(9, seed=4)
    )


def test_thinking_equals_an_uncached_reference(reasoner, model, tokenizer):
    """One sequence, no cache, no padding: the next text token from the last text token of the sequence so far."""
    for problem, trace in zip(CHAIN.generate(5, seed=5), reasoner.think(CHAIN.generate(5, seed=5)), strict=True):
        words = [*problem.question.split(), "<bot>"]
        places = list(range(len(words)))
        written = []

        def next_word(words=words, places=places):
            ids = torch.tensor([tokenizer.convert_tokens_to_ids(words)])
            mask = torch.ones_like(ids)
            with torch.no_grad():
                logits = model(input_ids=ids, position_ids=torch.tensor([places]), attention_mask=mask).logits[0]
            last = max(k for k, word in enumerate(words) if not word.startswith("<reason>"))
            return tokenizer.convert_ids_to_tokens(int(logits[last].argmax()))

        for _ in range(CONFIG.max_thought_tokens + 1):
            word = next_word()
            if word in ("<eot>", "<eos>") or len(written) == CONFIG.max_thought_tokens:
                word = "<eot>"
            words += ["<reason>(1)", "<reason>(2)", word]
            places += [places[-1] + 1] * 3
            if word == "<eot>":
                break
            written.append(word)
        while len(words) < len(trace) and (word := next_word()) != "<eos>":
            words.append(word)
            places.append(places[-1] + 1)
        assert trace.tokens == words


def test_a_replay_passes_the_positions_of_the_loop(reasoner, monkeypatch):
    traces = reasoner.think(CHAIN.generate(4, seed=6))
    calls = []
    base = fast_model(reasoner.model).base
    forward = base.forward

    def watched(*args, **kwargs):
        calls.append((kwargs["position_ids"], kwargs["attention_mask"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(base, "forward", watched)
    reasoner.replay(traces, hooks={})
    ((places, mask),) = calls
    for row, trace in zip(places, traces, strict=True):
        moving = [c != Channel.LATENT for c in trace.channel]
        assert row[: len(trace)].tolist() == [sum(moving[:k]) for k in range(len(trace))]
    assert mask.sum() == sum(map(len, traces))


def test_no_reasoning_tokens_is_a_text_reasoner(model, tokenizer, reasoner):
    config = CONFIG.model_copy(update={"reasoning_tokens": 0})
    none = SelfReasoner(reasoner.model, tokenizer, config, name="none", weights="none")
    alike = config.model_copy(update={"kind": "text"})
    text = TextReasoner(reasoner.model, tokenizer, alike, name="text", weights="none")
    problems = CHAIN.generate(6, seed=7)
    for a, b in zip(none.think(problems), text.think(problems), strict=True):
        assert a.tokens == b.tokens and a.channel == b.channel
