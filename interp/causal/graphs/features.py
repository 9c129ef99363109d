"""The features of an attribution graph: those of transcoders, or the MLPs' own neurons.

A neuron's activation is not linear in the MLP's input, so it is linearised where it was: the ratio of activation to
pre-activation is kept, and in a gated MLP gate and up projection carry half of the product each. What a neuron reads is
then linear, and exact at the original point (Jafari et al. 2025, "RelP: Faithful and Efficient Circuit Discovery via
Relevance Patching"). Nothing has to be trained, and no error node hides what the MLP does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.causal.graphs.frozen import FrozenPass
from interp.errors import UsageError
from interp.models.devices import copy_to
from interp.models.norms import close

if TYPE_CHECKING:
    from sae_lens import Transcoder

_ACTIVATIONS = ("act_fn", "activation_fn", "act", "activation")
_TINY = 1e-4


@dataclass(frozen=True)
class BlockFeatures:
    """The features of one block's MLP at every position of one pass.

    Attributes:
        acts: Their activations, shape (pos, features).
        shown: Which of them are nodes.
        writes: What each writes to the MLP's output at activation 1, shape (features, d_model).
        bias: What is written whatever is active, shape (d_model,).
        errors: What bias and shown features do not explain of the MLP's output, shape (pos, d_model).
        read: Activations as an affine function of the MLP's input at all positions.
        direction: What a feature reads at a position: a vector of length d_model.
    """

    acts: Float[Tensor, "pos features"]
    shown: Bool[Tensor, "pos features"]
    writes: Float[Tensor, "features d_model"]
    bias: Float[Tensor, " d_model"]
    errors: Float[Tensor, "pos d_model"]
    read: Callable[[Float[Tensor, "pos d_model"]], Float[Tensor, "pos features"]]
    direction: Callable[[int, int], Float[Tensor, " d_model"]]


def transcoder_features(frozen: FrozenPass, transcoders: Sequence[Transcoder]) -> list[BlockFeatures]:
    """Return the active features of a transcoder for each block.

    Raises:
        UsageError: There is not one for each block, or one has a linear path around its features.
    """
    n_layers = len(frozen.mlp_in)
    if len(transcoders) != n_layers:
        raise UsageError(
            f"expected {n_layers} transcoders, one for each block, got {len(transcoders)}; train all of them."
        )
    return [_of_transcoder(frozen, k, copy_to(t, frozen.embedded.device)) for k, t in enumerate(transcoders)]


def _of_transcoder(frozen: FrozenPass, block: int, transcoder: Any) -> BlockFeatures:
    if getattr(transcoder, "W_skip", None) is not None or transcoder.cfg.apply_b_dec_to_input:
        raise UsageError(
            f"expected a transcoder without a skip connection that does not centre its input, got another for block {block}; "
            "train one with `cotlens causal attribute`."
        )
    encoder, bias = transcoder.W_enc.detach(), transcoder.b_enc.detach()
    with torch.no_grad():
        acts = transcoder.encode(frozen.mlp_in[block])
        errors = frozen.mlp_out[block] - transcoder.decode(acts)
    return BlockFeatures(
        acts,
        acts != 0,
        transcoder.W_dec.detach(),
        transcoder.b_dec.detach(),
        errors,
        lambda inputs: inputs @ encoder + bias,
        lambda place, feature: encoder[:, feature],
    )


def neuron_features(frozen: FrozenPass, count: int, token: int | None = None) -> list[BlockFeatures]:
    """Return the neurons of each block's MLP, of which the `count` that matter most to a logit are shown.

    Args:
        frozen: The pass.
        count: Neurons that are shown, over all blocks and positions.
        token: The token whose logit counts, less the mean of all logits; the likeliest by default.

    Raises:
        UsageError: The MLPs of this architecture are not read neuron by neuron.
    """
    blocks = [_neurons(frozen, block) for block in range(len(frozen.mlp_in))]
    activations: list[Tensor] = []

    def write(block: BlockFeatures) -> Callable[[Tensor], Tensor]:
        def output(inputs: Tensor) -> Tensor:
            activations.append(block.read(inputs))
            return block.bias + activations[-1] @ block.writes

        return output

    embedded = frozen.embedded.clone().requires_grad_()
    _, logits = frozen.run(embedded, [write(block) for block in blocks])
    chosen = int(logits.argmax()) if token is None else token
    gradients = torch.autograd.grad(logits[chosen] - logits.mean(), activations, allow_unused=True)
    carried = [
        torch.zeros_like(block.acts) if gradient is None else (gradient * block.acts).abs()
        for block, gradient in zip(blocks, gradients, strict=True)
    ]
    flat = torch.cat([part.flatten() for part in carried])
    least = flat.topk(min(count, len(flat))).values[-1].clamp(min=torch.finfo(flat.dtype).tiny)
    return [_show(block, part >= least) for block, part in zip(blocks, carried, strict=True)]


def _show(block: BlockFeatures, shown: Tensor) -> BlockFeatures:
    return replace(block, shown=shown, errors=(block.acts * ~shown) @ block.writes)


def _neurons(frozen: FrozenPass, block: int) -> BlockFeatures:
    """Return all neurons of a block, which leave nothing over."""
    inputs = frozen.mlp_in[block]
    try:
        parts = _projections(frozen, block)
        out, act = frozen.part(f"blocks.{block}.mlp.out"), _activation(frozen.part(f"blocks.{block}.mlp"))
        with torch.no_grad():
            pre = [inputs @ weight + offset for weight, offset in parts]
            writes, bias = _affine(out, pre[0].shape[-1])
            ratio = act(_away_from_zero(pre[0])) / _away_from_zero(pre[0])
            acts = ratio * pre[0] if len(pre) == 1 else ratio * pre[0] * pre[1]
    except (LookupError, AttributeError, RuntimeError, TypeError) as error:
        raise _no_neurons(frozen, str(error).strip("'\"")) from None
    if not close(acts @ writes + bias, frozen.mlp_out[block]):
        raise _no_neurons(frozen, "they are not one activation of one or two projections")
    # Each factor of the product carries half of it.
    factors = [ratio] if len(pre) == 1 else [0.5 * ratio * pre[1], 0.5 * ratio * pre[0]]

    def read(states: Tensor) -> Tensor:
        return sum(f * (states @ weight + offset) for f, (weight, offset) in zip(factors, parts, strict=True))  # type: ignore[return-value]

    def direction(place: int, neuron: int) -> Tensor:
        return sum(f[place, neuron] * weight[:, neuron] for f, (weight, _) in zip(factors, parts, strict=True))  # type: ignore[return-value]

    shown, errors = torch.ones_like(acts, dtype=torch.bool), torch.zeros_like(inputs)
    return BlockFeatures(acts, shown, writes, bias[0], errors, read, direction)


def _projections(frozen: FrozenPass, block: int) -> list[tuple[Tensor, Tensor]]:
    """Return weights (d_model, neurons) and biases of the MLP's input projection, or of gate and up projection."""
    mlp = frozen.part(f"blocks.{block}.mlp")
    fused = getattr(mlp, "gate_up_proj", None)
    d = frozen.mlp_in[block].shape[-1]
    if isinstance(fused, torch.nn.Linear):
        return list(zip(*(part.chunk(2, dim=-1) for part in _affine(fused, d)), strict=True))
    try:
        gate = [frozen.part(f"blocks.{block}.mlp.gate")]
    except LookupError:
        gate = []
    return [_affine(part, d) for part in (*gate, frozen.part(f"blocks.{block}.mlp.in"))]


def _affine(linear: Any, d: int) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a linear map however it stores them."""
    with torch.no_grad():
        device = next(linear.parameters()).device
        bias = linear(torch.zeros(1, d, device=device))
        return linear(torch.eye(d, device=device)) - bias, bias


def _activation(mlp: Any) -> Callable[[Tensor], Tensor]:
    for name in _ACTIVATIONS:
        if callable(getattr(mlp, name, None)):
            return getattr(mlp, name)
    raise LookupError("their activation function is not known")


def _away_from_zero(pre: Tensor) -> Tensor:
    """Return pre-activations at which a ratio to them is defined."""
    return torch.where(pre.abs() < _TINY, torch.full_like(pre, _TINY), pre)


def _no_neurons(frozen: FrozenPass, reason: str) -> UsageError:
    return UsageError(
        f"expected MLPs that are read neuron by neuron, got those of {frozen.architecture}: {reason.splitlines()[0][:120]}; "
        "use transcoders (leave --neurons out)."
    )
