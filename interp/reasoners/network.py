"""The network of a reasoner: the wrapped model, its two ends, and hooks on whichever copy of it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from interp.errors import UsageError, unknown
from interp.models.address import Address, hook_points
from interp.models.base_model import base_of
from interp.models.cache import hides_masked, keeps_only_positions, rotary_limit, rotary_switch
from interp.models.fast_model import FastModel, fast_model_for, watch_addresses
from interp.models.unembedding import Unembedding

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


class Network:
    """A wrapped model and its two ends.

    Attributes:
        model: The model with TransformerLens hooks under their usual names.
        base: The same model without its unembedding.
        embed: The token embedding.
        unembed: The unembedding, from final-norm states to logits.
        max_positions: The longest input that the model takes, or None where there is no limit.
        rotary_limit: The length from which on rotary frequencies depend on the longest row of a batch, else None.
        rotary_switch: The length beyond which every position has other rotary frequencies, else None.
    """

    def __init__(self, model: TransformerBridge) -> None:
        self.model = model
        wrapped: Any = model.original_model
        self.base: Any = base_of(wrapped)
        self.embed: Any = wrapped.get_input_embeddings()
        self.unembed = Unembedding(wrapped)
        shape = wrapped.config.get_text_config()
        self.max_positions: int | None = getattr(shape, "max_position_embeddings", None)
        self.rotary_limit: int | None = rotary_limit(wrapped.config)
        self.rotary_switch: int | None = rotary_switch(wrapped.config)

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.embed.weight.device

    @cached_property
    def keeps_only_positions(self) -> bool:
        """Whether masked positions leave no trace in what the model keeps of a text."""
        return keeps_only_positions(self.base)

    def runs_alone(self, longest: int) -> str | None:
        """Return why rows of up to `longest` positions cannot share a batch, or None where they can."""
        if not self.keeps_only_positions or not hides_masked(self.base):
            return "keeps a state in which masked positions leave a trace"
        if self.rotary_limit is not None and longest > self.rotary_limit:
            return f"scales its rotary frequencies by the longest row of a batch beyond {self.rotary_limit} positions"
        return None

    def base_under(self, hooks: Iterable[str], *, fast: bool) -> Any:
        """Return the base model that `hooked` would run with hooks of these names."""
        copy = self._fast_copy(hooks, fast)
        return self.base if copy is None else copy.base

    def _fast_copy(self, hooks: Iterable[str], fast: bool) -> FastModel | None:
        return fast_model_for(self.model, list(hooks)) if fast else None

    def _check_names(self, hooks: Iterable[str]) -> None:
        """Refuse hooks that would never see anything, which TransformerLens passes over in silence."""
        names = hook_points(self.model).names
        known = set(names)
        for name in hooks:
            if name not in known and Address(name).name not in known:
                raise unknown("address", name, names)
            if name.startswith("unembed."):
                raise UsageError(
                    f"expected an address before the unembedding, got {name}: logits are not computed here; take "
                    "ln_final.hook_out, and apply `reasoner.unembed` to it."
                )

    @contextmanager
    def hooked(self, hooks: Mapping[str, Callable[..., None]], *, fast: bool, whole: bool = True) -> Iterator[Any]:
        """Put read-only hooks on the model, and give the base model that has to run.

        Args:
            hooks: Hook name to the function that sees the activations.
            fast: Run the fast copy of the model if it can be read at every hook name. Not possible while anything
                in the model is changed.
            whole: Run every pass to its end. Otherwise a pass may end with `StopForward` once every hook has run.

        Raises:
            UsageError: The model has no hook of a name, or the hook is at the unembedding, which does not run here.
        """
        self._check_names(hooks)
        copy = self._fast_copy(hooks, fast)
        if copy is None:
            with self.model.hooks(fwd_hooks=list(hooks.items())):
                yield self.base
        else:
            with watch_addresses(self.model, copy, hooks, whole=whole):
                yield copy.base
