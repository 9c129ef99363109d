"""Training organisms: one curriculum loop for direct, text, pause and continuous reasoners.

The curriculum is Coconut's (arXiv 2412.06769, section 3): at stage k the first k steps of the text are
replaced by thoughts, the loss covers what is still text, and the optimizer starts anew. What a thought
is, is the only difference between the arms: for `continuous` it is the previous position's final-norm
state, for `pause` it is a learned token that feeds nothing back. Recipes are in `recipes/`, the tricks
behind them (bf16 matrix products over fp32 weights, ReLU, small sinusoidal positions, one number of
steps in a batch) are what made them learn on one CPU core.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import CotlensError
from interp.models.tokenizers import BEGIN, END, EOS, LATENT, PAUSE, word_tokenizer
from interp.problems import task as make_task

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

    from interp.organisms.catalog import Recipe, Stage
    from interp.problems.base import Problem, Task

Progress = Callable[[str, int, int, float], None]


@dataclass(frozen=True)
class Batch:
    """Token ids of one batch without padding, with the columns of the thoughts and the loss mask."""

    ids: Int[Tensor, "batch pos"]
    first_thought: int
    n_thoughts: int
    scored: Float[Tensor, "batch pos"]


def words_of(problem: Problem, kind: str, n_hidden: int) -> tuple[list[str], int, int]:
    """A training sequence: its words, the column of the first thought, and the number of thoughts.

    The first `n_hidden` steps are thoughts, the later ones text. `direct` has neither.
    """
    question = [*problem.question.split(), BEGIN]
    if kind == "direct":
        return [*question, END, problem.answer, EOS], len(question), 0
    hidden = min(n_hidden, problem.n_steps)
    filler = LATENT if kind == "continuous" else PAUSE
    written = [step.text for step in problem.steps[hidden:]]
    words = [*question, *[filler] * hidden, *written, END, problem.answer, EOS]
    return words, len(question), hidden


def make_batch(problems: Sequence[Problem], tokenizer: PreTrainedTokenizerFast, kind: str, n_hidden: int) -> Batch:
    """One batch of problems whose questions and steps have the same lengths."""
    rows = [words_of(problem, kind, n_hidden) for problem in problems]
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(words) for words, _, _ in rows])
    _, first, n_thoughts = rows[0]
    scored = torch.zeros(ids.shape)
    scored[:, first + n_thoughts :] = 1.0
    if n_thoughts == problems[0].n_steps or kind == "direct":
        scored[:, first + n_thoughts] = 0.0  # the end marker after the last thought is forced, not predicted
    return Batch(ids, first, n_thoughts, scored)


def loss_of(model: GPT2LMHeadModel, batch: Batch, latent_scale: float | None) -> Float[Tensor, ""]:
    """Mean next-token loss over the scored positions; with `latent_scale`, thoughts are fed back.

    Gradients flow through the whole chain of thoughts, as in the paper.
    """
    if latent_scale is None or batch.n_thoughts == 0:
        logits = model(input_ids=batch.ids).logits
    else:
        logits = _logits_with_thoughts(model, batch, latent_scale)
    targets, weights = batch.ids[:, 1:], batch.scored[:, 1:]
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), targets.flatten(), reduction="none"
    )
    return (losses * weights.flatten()).sum() / weights.sum()


def _logits_with_thoughts(model: GPT2LMHeadModel, batch: Batch, scale: float) -> Float[Tensor, "batch pos vocab"]:
    embed = model.get_input_embeddings()
    base = model.transformer
    first, last = batch.first_thought, batch.first_thought + batch.n_thoughts
    out = base(inputs_embeds=embed(batch.ids[:, :first]), use_cache=True)
    states = [out.last_hidden_state]
    for _ in range(batch.n_thoughts):
        thought = states[-1][:, -1:] * scale
        out = base(inputs_embeds=thought, past_key_values=out.past_key_values, use_cache=True)
        states.append(out.last_hidden_state)
    out = base(inputs_embeds=embed(batch.ids[:, last:]), past_key_values=out.past_key_values, use_cache=True)
    states.append(out.last_hidden_state)
    return model.lm_head(torch.cat(states, dim=1))


def new_model(recipe: Recipe, n_vocabulary: int, seed: int) -> GPT2LMHeadModel:
    """A freshly initialised GPT-2 of the recipe's shape."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    shape = recipe.model
    config: Any = GPT2Config(  # type: ignore[call-arg]
        vocab_size=n_vocabulary,
        n_positions=shape.n_positions,
        n_embd=shape.d_model,
        n_layer=shape.n_layers,
        n_head=shape.n_heads,
        activation_function="relu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=3,
        attn_implementation="eager",
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wte.weight.normal_(0, 0.1)
        model.transformer.wpe.weight.copy_(_sinusoids(shape.n_positions, shape.d_model))
    return model


def _sinusoids(n_positions: int, width: int, std: float = 0.1) -> Float[Tensor, "pos d_model"]:
    position = torch.arange(n_positions).float()[:, None]
    rate = torch.exp(torch.arange(0, width, 2).float() * (-math.log(1000.0) / width))
    table = torch.zeros(n_positions, width)
    table[:, 0::2], table[:, 1::2] = torch.sin(position * rate), torch.cos(position * rate)
    return table * (std / table.std())


def tokenizer_of(task: Task) -> PreTrainedTokenizerFast:
    return word_tokenizer(task.vocabulary())


def train(recipe: Recipe, seed: int, *, initial: GPT2LMHeadModel | None, progress: Progress | None = None) -> Any:
    """Train `recipe` from `seed`, starting from `initial` where the recipe builds on another organism.

    Returns the model in fp32. Raises `CotlensError` when the loss is no longer a finite number.
    """
    task = make_task(recipe.task)
    tokenizer = tokenizer_of(task)
    model = initial or new_model(recipe, len(tokenizer), seed)
    torch.manual_seed(seed + 1)
    batches = _problem_batches(task, random.Random(f"{recipe.name}|{seed}"), recipe.batch_size)
    choose = random.Random(f"stages|{recipe.name}|{seed}")
    model.train()
    for number, stage in enumerate(recipe.stages):
        earlier = [other.hidden_steps for other in recipe.stages[:number]]
        _run_stage(model, tokenizer, recipe, stage, earlier, batches, choose, progress)
    return model.eval()


def _run_stage(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    stage: Stage,
    earlier: list[int],
    batches: Iterator[list[Problem]],
    choose: random.Random,
    progress: Progress | None,
) -> None:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=stage.learning_rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True
    )
    scale = recipe.latent_scale if recipe.kind == "continuous" else None
    mean_loss = float("nan")
    for update in range(stage.updates):
        optimizer.param_groups[0]["lr"] = stage.learning_rate * _schedule(update, stage.updates)
        hidden = choose.choice(earlier) if earlier and choose.random() < recipe.replay else stage.hidden_steps
        batch = make_batch(next(batches), tokenizer, recipe.kind, hidden)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, batch, scale)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if update % 10 == 0 or update == stage.updates - 1:
            value = float(loss.detach())
            if not math.isfinite(value):
                raise CotlensError(
                    f"training {recipe.name} diverged in stage {stage.name!r} at update {update}: the loss is {value}. "
                    f"Lower this stage's learning_rate ({stage.learning_rate}) or use another seed."
                )
            # A batch holds problems of one length, so single losses jump about; the running mean does not.
            mean_loss = value if math.isnan(mean_loss) else 0.9 * mean_loss + 0.1 * value
            if progress:
                progress(stage.name, update + 1, stage.updates, mean_loss)


def _schedule(update: int, updates: int, warm_up: int = 50, decay_from: float = 0.5) -> float:
    rising = min(1.0, (update + 1) / warm_up)
    done = update / updates
    falling = 1.0 if done < decay_from else max(0.02, (1 - done) / (1 - decay_from))
    return rising * falling


def _problem_batches(task: Any, rng: random.Random, size: int) -> Iterator[list[Problem]]:
    """Training problems in batches of one surface shape, so that nothing is padded."""
    streams: dict[int, Iterator[Problem]] = {}
    waiting: dict[tuple[int, int], list[Problem]] = {}
    while True:
        n_steps = rng.randint(task.min_steps, task.max_steps)
        stream = streams.setdefault(n_steps, task.draws(random.Random(rng.random()), "train", n_steps))
        problem = next(stream)
        shape = (len(problem.question.split()), n_steps)
        full = waiting.setdefault(shape, [])
        full.append(problem)
        if len(full) == size:
            waiting[shape] = []
            yield full


def save(model: Any, recipe: Recipe, folder: Path) -> None:
    """Write a Hugging Face folder (fp16 safetensors, tokenizer) with its `reasoner.json`."""
    import copy

    from interp.models.load import quiet

    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        copy.deepcopy(model).half().save_pretrained(folder)
        tokenizer_of(make_task(recipe.task)).save_pretrained(folder)
    recipe.reasoner().save(folder)
