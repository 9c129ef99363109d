"""The linear pass under an attribution graph: a model whose attention patterns and norm scales are frozen.

The model's own code runs, so grouped key-value heads, rotary positions, norms before or after a block, parallel blocks
and residual scales are whatever the architecture makes of them. Only three things are put in its way: attention mixes
values by the recorded patterns, every norm divides by its recorded scale, and each MLP's output is given. What is left
is affine in the embeddings and the MLPs' outputs (Ameisen et al. 2025, "Circuit Tracing", section 2), which is checked:
an architecture in which something else is in the way is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.causal.graphs.freezing import Tape, frozen_attention
from interp.errors import UsageError
from interp.models.base_model import base_prefix
from interp.models.devices import to_device
from interp.models.fast_model import base_copy
from interp.models.norms import TOLERANCE, FrozenNorm, close
from interp.traces import Trace

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.reasoners.replayer import ReplayBatch

_HALF_TOLERANCE = 5e-2  # of the largest value
#: The output of an MLP, a function that gives it from the MLP's input, or None for the MLP itself.
Written = Tensor | Callable[[Tensor], Tensor] | None


class FrozenPass:
    """One forward pass over the first positions of a trace, frozen.

    It is computed in float32 whatever the model computes in.

    Args:
        reasoner: The reasoner of the trace.
        trace: The trace.
        position: The last position.

    Attributes:
        embedded: The input of block 0, shape (pos, d_model).
        mlp_in: The input of each block's MLP, shape (pos, d_model).
        mlp_out: The output of each block's MLP, shape (pos, d_model).
        logits: The logits at the last position, before a soft cap, shape (vocab,).

    Raises:
        UsageError: The pass of this architecture does not become linear in this way.
    """

    def __init__(self, reasoner: Reasoner, trace: Trace, position: int) -> None:
        self._reasoner, self._tape = reasoner, Tape()
        self.architecture = type(reasoner.model.original_model).__name__
        self.mlp_in: list[Tensor] = []
        self.mlp_out: list[Tensor] = []
        self._written: Sequence[Written] = ()
        self._norms_respond = False
        recorded = _ends(reasoner, trace, position + 1)
        self.embedded, last = recorded["blocks.0.hook_in"], recorded["ln_final.hook_out"][-1:]
        positions = reasoner.replayer.position_ids(trace)[: position + 1]
        self._position_ids = to_device(positions[None], self.embedded.device)
        try:
            self._model = _float_copy(base_copy(reasoner.model))
            self._parts = self._find_parts()
            self._model.set_attn_implementation(frozen_attention())
            with torch.no_grad():
                state = self._forward(self.embedded)
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise self._unsupported(str(error).strip("'\"") or type(error).__name__) from None
        self._tape.recording = False
        self.logits = reasoner.unembed.uncapped(state)[0]
        self._check(state, last, reasoner.embed.weight.dtype)

    def run(
        self,
        embedded: Float[Tensor, "pos d_model"],
        written: Sequence[Written],
        *,
        norms_respond: bool = False,
    ) -> tuple[list[Float[Tensor, "pos d_model"]], Float[Tensor, " vocab"]]:
        """Run the frozen pass on other inputs.

        Args:
            embedded: The input of block 0.
            written: The output of each block's MLP, of shape (pos, d_model), a function that gives it from the MLP's
                input, or None for the MLP itself.
            norms_respond: Whether norms are computed from their inputs and not frozen.

        Returns:
            The inputs of the MLPs, and the logits at the last position before a soft cap. All are affine in the
            arguments where MLP outputs are given and norms are frozen.
        """
        self._written, self._norms_respond = written, norms_respond
        state, inputs = self._forward(embedded), self._inputs
        return inputs, self._reasoner.unembed.uncapped(state)[0]

    def part(self, name: str) -> Any:
        """Return the module of this pass with a TransformerLens name, such as `blocks.0.mlp.out`.

        Raises:
            LookupError: There is none.
        """
        bridge = self._reasoner.model
        prefix = base_prefix(bridge.original_model)
        try:
            path = bridge.adapter.translate_transformer_lens_path(name)
            return self._model.get_submodule(path.removeprefix(prefix))
        except (ValueError, AttributeError):
            raise LookupError(f"it has no single module for {name}") from None

    def _find_parts(self) -> tuple[Any, list[Any], list[Any]]:
        """Return the first block, the MLPs and the norms."""
        n_layers = self._reasoner.model.cfg.n_layers
        mlps = [self.part(f"blocks.{k}.mlp") for k in range(n_layers)]
        norms = [m for m in self._model.modules() if "Norm" in type(m).__name__ and not list(m.children())]
        for module in self._model.modules():
            module.cotlens_tape = self._tape
        return self.part("blocks.0"), list(dict.fromkeys(mlps)), norms

    def _forward(self, embedded: Tensor) -> Tensor:
        """Run the pass and return the final state at the last position, shape (1, d_model)."""
        self._tape.next = 0
        self._inputs: list[Tensor] = []
        first, mlps, norms = self._parts
        with ExitStack() as stack:

            def put(handle: Any) -> None:
                stack.callback(handle.remove)

            put(first.register_forward_pre_hook(_give(embedded[None]), with_kwargs=True))
            for mlp in mlps:
                put(mlp.register_forward_pre_hook(self._see_mlp, with_kwargs=True))
                put(mlp.register_forward_hook(self._write_mlp))
            for norm in norms:
                put(norm.register_forward_hook(self._freeze_norm))
            out = self._model(
                inputs_embeds=embedded.detach()[None],
                attention_mask=torch.ones_like(self._position_ids),
                position_ids=self._position_ids,
                use_cache=False,
            )
        if self._tape.next != len(self._tape.values) or not any(isinstance(v, Tensor) for v in self._tape.values):
            raise ValueError("its attention cannot be frozen")
        return out.last_hidden_state[0, -1:]

    def _see_mlp(self, module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        self._inputs.append((args[0] if args else kwargs["hidden_states"])[0])

    def _write_mlp(self, module: Any, args: tuple, output: Any) -> Any:
        out = output if isinstance(output, Tensor) else output[0]
        if self._tape.recording:
            self.mlp_in.append(self._inputs[-1])
            self.mlp_out.append(out.reshape(self._inputs[-1].shape))
            return None
        given = self._written[len(self._inputs) - 1]
        if given is None:
            return None
        given = (given if isinstance(given, Tensor) else given(self._inputs[-1])).reshape(out.shape)
        return given if isinstance(output, Tensor) else (given, *output[1:])

    def _freeze_norm(self, module: Any, args: tuple, output: Tensor) -> Tensor | None:
        frozen = self._tape.take(lambda: FrozenNorm.measure(module, args[0], output))
        return None if self._tape.recording or self._norms_respond else frozen(args[0])

    @torch.no_grad()
    def _check(self, state: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
        """Refuse a pass that is not the model's own, does not reproduce it, or is not affine."""
        if not close(state, expected, TOLERANCE if dtype == torch.float32 else _HALF_TOLERANCE):
            raise self._unsupported("its attention or blocks cannot be computed apart from the rest")
        ends = {share: self._scaled(share) for share in (0.0, 0.5, 1.0)}
        if not close(ends[1.0], self.logits):
            raise self._unsupported("the frozen pass does not reproduce its logits")
        if not close(ends[0.5], (ends[0.0] + ends[1.0]) / 2):
            raise self._unsupported("it is not linear with attention patterns and norm scales frozen")

    def _scaled(self, share: float) -> Tensor:
        return self.run(share * self.embedded, [share * out for out in self.mlp_out])[1]

    def _unsupported(self, reason: str) -> UsageError:
        return UsageError(
            f"attribution graphs are not supported for {self.architecture}: {reason.splitlines()[0][:160].rstrip('.')}. What "
            "works instead: `cotlens causal interchange`, `ablate` and `follow`, which need no linear pass."
        )


def _ends(reasoner: Reasoner, trace: Trace, end: int) -> dict[str, Tensor]:
    """Return the input of block 0 and the final state at the positions before `end`, in float32."""
    recorded: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(activations: Tensor, batch: ReplayBatch) -> None:
            recorded[name] = activations[0, :end].detach().float()

        return hook

    reasoner.replay([trace], hooks={name: keep(name) for name in ("blocks.0.hook_in", "ln_final.hook_out")})
    return recorded


def _float_copy(model: Any) -> Any:
    """Return a copy of a model in float32 that shares the tensors which are."""

    def as_float(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or tensor.dtype == torch.float32:
            return tensor
        values = tensor.detach().float()
        return torch.nn.Parameter(values, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else values

    return copy.deepcopy(model, {id(t): as_float(t) for t in [*model.parameters(), *model.buffers()]})


def _give(states: Tensor) -> Callable[..., Any]:
    """Return a hook that puts `states` in place of a block's input."""

    def hook(module: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return ((states, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": states})

    return hook
