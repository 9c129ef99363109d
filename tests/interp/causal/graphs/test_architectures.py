"""Attribution graphs on other architectures: exact at the original point, sums that add up, and plain references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.causal.graphs.attribution import FEATURE, LOGIT, AttributionGraph, attribute
from interp.causal.graphs.features import neuron_features
from interp.causal.graphs.frozen import FrozenPass
from interp.causal.graphs.paths import confirm, random_pairs
from interp.causal.graphs.ranking import norm_shares, top_paths
from interp.errors import UsageError
from interp.models.norms import FrozenNorm

GATED = ["llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "mistral", "phi3", "olmo2"]
SUPPORTED = [*GATED, "gpt2", "gpt_neox", "qwen3_moe", "gpt_oss"]
POSITION = 20
SHORT = {"kind": "direct", "max_answer_tokens": 8}


@torch.no_grad()
def plain_logits(plain: Any, trace: Any) -> torch.Tensor:
    return plain(torch.tensor([trace.token_ids[: POSITION + 1]])).logits[0, -1]


def random_transcoders(reasoner: interp.Reasoner) -> list[Any]:
    from sae_lens import Transcoder, TranscoderConfig

    d, out = reasoner.embed.weight.shape[1], []
    for block in range(reasoner.model.cfg.n_layers):
        transcoder = Transcoder(TranscoderConfig(d_in=d, d_out=d, d_sae=24, apply_b_dec_to_input=False))
        draw = torch.Generator().manual_seed(block)
        for value in transcoder.parameters():
            value.data = torch.randn(value.shape, generator=draw) * 0.2
        out.append(transcoder.requires_grad_(False))
    return out


def check_sums(graph: AttributionGraph) -> None:
    """The edges into every node and its constant add up to what it reads."""
    rows = graph.nodes["input"].notna().to_numpy()
    sums = graph.edges.sum(dim=1).numpy()[rows] + graph.nodes["constant"].to_numpy()[rows]
    read = graph.nodes["input"].to_numpy()[rows]
    np.testing.assert_allclose(sums, read, atol=2e-4 * np.abs(read).max())


@pytest.mark.parametrize("architecture", SUPPORTED)
def test_the_frozen_pass_has_the_plain_models_logits_and_contributions_add_up(
    small_model: Any, architecture: str
) -> None:
    reasoner, (trace, *_), plain = small_model(architecture)
    graph = attribute(reasoner, trace, POSITION, random_transcoders(reasoner))
    frozen = FrozenPass(reasoner, trace, POSITION)
    expected = plain_logits(plain, trace)
    torch.testing.assert_close(reasoner.unembed.capped(frozen.logits), expected, atol=1e-4, rtol=1e-4)
    (logit,) = graph.nodes[graph.nodes["type"] == LOGIT].itertuples()
    assert logit.feature == int(expected.argmax())
    assert logit.input == pytest.approx(float(frozen.logits[logit.feature] - frozen.logits.mean()), rel=1e-4)
    check_sums(graph)
    active = graph.nodes[graph.nodes["type"] == FEATURE]
    np.testing.assert_allclose(active["input"], active["activation"], rtol=1e-3, atol=1e-4)  # ReLU, and active


@pytest.mark.parametrize("architecture", [*GATED, "gpt2", "gpt_neox"])
def test_neurons_read_their_own_activation_and_nothing_is_left_over(small_model: Any, architecture: str) -> None:
    reasoner, (trace, *_), _ = small_model(architecture)
    n = (POSITION + 1) * reasoner.model.cfg.n_layers * 200
    graph = attribute(reasoner, trace, POSITION, None, neurons=60)
    neurons = graph.nodes[graph.nodes["type"] == FEATURE]
    assert len(neurons) == 60
    np.testing.assert_allclose(neurons["input"], neurons["activation"], rtol=1e-3, atol=1e-5)
    check_sums(graph)
    # Neurons that carry nothing to the logit are all that is left over when there is room for every one.
    frozen = FrozenPass(reasoner, trace, POSITION)
    for block, given, written in zip(neuron_features(frozen, n), frozen.mlp_in, frozen.mlp_out, strict=True):
        shown = (block.acts * block.shown) @ block.writes
        torch.testing.assert_close(shown + block.bias + block.errors, written, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(block.read(given), block.acts, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(
            block.read(given * 0 + given[3])[3], block.acts[3], atol=1e-4, rtol=1e-3
        )  # each position has a line of its own


def test_the_frozen_pass_is_affine_in_every_direction(small_model: Any) -> None:
    """Finite differences of any size equal the gradient: nothing curved is left."""
    reasoner, (trace, *_), _ = small_model("qwen3")
    frozen = FrozenPass(reasoner, trace, POSITION)
    leaf = frozen.embedded.clone().requires_grad_()
    _, logits = frozen.run(leaf, frozen.mlp_out)
    (gradient,) = torch.autograd.grad(logits[7], leaf)
    for size in (1e-1, 1.0, 30.0):
        push = size * torch.randn(leaf.shape, generator=torch.Generator().manual_seed(0))
        moved = frozen.run(frozen.embedded + push, frozen.mlp_out)[1][7]
        assert float((moved - logits[7]).detach()) == pytest.approx(float((gradient * push).sum()), rel=1e-3, abs=1e-4)


@torch.no_grad()
def test_embedding_edges_equal_a_reference_written_from_llamas_equations(small_model: Any) -> None:
    """Embeddings reach the logit through residuals and value-output circuits, with two query heads a key-value head."""
    reasoner, (trace, *_), plain = small_model("llama")
    graph = attribute(reasoner, trace, POSITION, random_transcoders(reasoner))
    out = plain(
        torch.tensor([trace.token_ids[: POSITION + 1]]),
        output_attentions=True,
        output_hidden_states=True,
        use_cache=False,
    )
    states, d_head = [h[0] for h in out.hidden_states], 8

    def frozen(x: torch.Tensor, was: torch.Tensor, norm: Any) -> torch.Tensor:
        return x / (was.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt() * norm.weight

    (logit,) = graph.nodes[graph.nodes["type"] == LOGIT].itertuples()
    row = graph.edges[logit.Index]
    seen = {}
    handle = plain.model.norm.register_forward_pre_hook(lambda m, a: seen.update(last=a[0][0]))
    plain(torch.tensor([trace.token_ids[: POSITION + 1]]))
    handle.remove()
    for place in (0, 7, POSITION):
        stream = torch.zeros_like(states[0])
        stream[place] = states[0][place]
        for layer, block in enumerate(plain.model.layers):
            value = frozen(stream, states[layer], block.input_layernorm) @ block.self_attn.v_proj.weight.T
            heads = [value[:, h // 2 * d_head :][:, :d_head] for h in range(4)]
            mixed = torch.cat([out.attentions[layer][0, h] @ heads[h] for h in range(4)], dim=-1)
            stream = stream + mixed @ block.self_attn.o_proj.weight.T
        final = frozen(stream[-1], seen["last"][-1], plain.model.norm) @ plain.lm_head.weight.T
        assert float(row[place]) == pytest.approx(float(final[logit.feature] - final.mean()), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_removing_a_neuron_changes_what_the_next_reads_as_its_edge_says(small_model: Any, architecture: str) -> None:
    reasoner, (trace, *_), _ = small_model(architecture)
    graph = attribute(reasoner, trace, POSITION, None, neurons=80)
    pairs = top_paths(graph, 6)
    result = confirm(reasoner, graph, pairs)
    control = confirm(reasoner, graph, list(random_pairs(graph, pairs, 0).values()))
    assert result["confirmed"].mean() >= 0.8
    assert np.abs(control["measured"]).median() < np.abs(result["measured"]).median()


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt_neox"])
def test_what_norms_leave_of_an_edge_is_a_small_removals_effect(small_model: Any, architecture: str) -> None:
    reasoner, (trace, *_), _ = small_model(architecture)
    graph = attribute(reasoner, trace, POSITION, None, neurons=80)
    pairs = top_paths(graph, 3)
    frozen = FrozenPass(reasoner, trace, POSITION)
    shares = norm_shares(reasoner, graph, pairs)
    assert np.abs(shares - 1).max() > 1e-3
    for share, (source, target) in zip(shares, pairs, strict=True):
        (low, at), (high, read_at) = (graph.nodes.iloc[k][["layer", "position"]].astype(int) for k in (source, target))
        ends = []
        for size in (-0.05, 0.05):
            written = [out.clone() for out in frozen.mlp_out]
            written[low][at] += size * graph.writes[source]
            states = frozen.run(frozen.embedded, written, norms_respond=True)[0][high][read_at]
            ends.append(float(states @ graph.reads[target]))
        assert share == pytest.approx(
            (ends[1] - ends[0]) / 0.1 / float(graph.edges[target, source]), rel=0.02, abs=0.01
        )


def test_mlps_that_are_not_given_are_the_models_own(small_model: Any) -> None:
    reasoner, (trace, *_), _ = small_model("llama")
    frozen = FrozenPass(reasoner, trace, POSITION)
    _, logits = frozen.run(frozen.embedded, [None] * len(frozen.mlp_out), norms_respond=True)
    torch.testing.assert_close(logits, frozen.logits, atol=1e-4, rtol=1e-4)
    other, _ = frozen.run(1.5 * frozen.embedded, [None] * len(frozen.mlp_out))
    fixed, _ = frozen.run(1.5 * frozen.embedded, frozen.mlp_out)
    torch.testing.assert_close(other[0], fixed[0])
    assert (other[-1] - fixed[-1]).abs().max() > 1e-3  # the first MLP saw another input


@pytest.mark.parametrize("architecture", ["gpt_neo", "bloom", "mpt", "mamba"])
def test_what_cannot_be_frozen_is_refused_in_one_line(
    model_folder: Callable[..., Any], asked: Callable[..., list], architecture: str
) -> None:
    reasoner = interp.load(model_folder(architecture), reasoner=SHORT)
    (trace,) = reasoner.think(asked(2)[:1])
    with pytest.raises(UsageError, match=r"^attribution graphs are not supported for \w+: .*works instead") as refused:
        attribute(reasoner, trace, 5, None)
    assert "\n" not in str(refused.value)


def test_mixtures_of_experts_have_no_neurons_to_read(small_model: Any) -> None:
    reasoner, (trace, *_), _ = small_model("qwen3_moe")
    with pytest.raises(UsageError, match="expected MLPs that are read neuron by neuron, got those of Qwen3Moe"):
        attribute(reasoner, trace, POSITION, None)


def test_a_norm_that_is_none_is_refused() -> None:
    class Softmax(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.softmax(inputs, dim=-1)

    inputs = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="Softmax is not a norm with one scale"):
        FrozenNorm.measure(Softmax(), inputs, torch.softmax(inputs, dim=-1))
