"""A fast copy of a wrapped model, for work that only reads activations.

TransformerLens's Bridge calls Python at every hook point, which doubles the time of a short forward pass. Where
nothing is edited, the fast copy runs instead: the same tensors in Hugging Face's own modules, in which an address is a
module's input or output. On the first use of an address both models run on a few tokens. An address whose activations
differ is read through the Bridge.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.address import hook_points
from interp.models.base_model import base_of, base_prefix
from interp.models.devices import move_modules

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

_ATTRIBUTE = "cotlens_plain"
Watcher = Callable[[Float[Tensor, "batch pos d"]], None]


class StopForward(Exception):  # noqa: N818 (control flow, like StopIteration)
    """Ends a forward pass early, once all watched activations have been seen."""


@dataclass
class FastModel:
    """The fast copy and what is known of its addresses.

    Attributes:
        base: The model without its unembedding.
        buffers: Buffers of every module that has any.
        widths: Width of each compared address; None where its activations differ from those of the Bridge.
        modules: Module of each address, and its side: "in" or "out".
        single: Addresses that a forward pass visits once.
    """

    base: Any
    buffers: list[dict[str, Any]] = field(init=False)
    widths: dict[str, int | None] = field(default_factory=dict)
    modules: dict[str, tuple[Any, str]] = field(default_factory=dict)
    single: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.buffers = [module._buffers for module in self.base.modules() if module._buffers]

    @property
    def on_one_device(self) -> bool:
        """Whether buffers and parameters are on one device. `bridge.to` moves only the parameters, which are shared."""
        device = self.base.get_input_embeddings().weight.device
        return all(buffer is None or buffer.device == device for table in self.buffers for buffer in table.values())


def attach_fast_model(bridge: TransformerBridge, model: Any) -> None:
    """Keep a fast copy with its wrapped model, outside its modules and state."""
    object.__setattr__(bridge, _ATTRIBUTE, FastModel(base_of(model)))


def base_copy(bridge: TransformerBridge) -> Any:
    """Return the fast copy without its unembedding, whatever is hooked on the wrapped model.

    Args:
        bridge: The wrapped model.
    """
    return vars(bridge)[_ATTRIBUTE].base


def fast_model(bridge: TransformerBridge) -> FastModel | None:
    """Return the fast copy of a wrapped model, or None where it cannot replace it.

    It cannot where hooks are registered, or where the two models differ in device or dtype.

    Args:
        bridge: The wrapped model.

    Returns:
        The fast copy, or None.
    """
    fast: FastModel | None = vars(bridge).get(_ATTRIBUTE)
    if fast is None or hook_points(bridge).hooked:
        return None
    wrapped: Any = bridge.original_model
    ours, theirs = (model.get_input_embeddings().weight for model in (fast.base, wrapped))
    return fast if ours.device == theirs.device and ours.dtype == theirs.dtype and fast.on_one_device else None


def move_bridge(bridge: TransformerBridge, device: torch.device, *others: torch.nn.Module) -> None:
    """Move a wrapped model, its fast copy and other modules to a device, in place.

    Args:
        bridge: The wrapped model.
        device: The device to move to.
        *others: Other modules to move.
    """
    fast: FastModel | None = vars(bridge).get(_ATTRIBUTE)
    wrapped: Any = bridge.original_model
    move_modules([bridge, wrapped, *([] if fast is None else [fast.base]), *others], device)
    bridge.cfg.device = str(device)


def fast_model_for(bridge: TransformerBridge, names: Sequence[str]) -> FastModel | None:
    """Return the fast copy where it can run and all these addresses have the same activations in it, else None.

    Args:
        bridge: The wrapped model.
        names: Hook names of the addresses.

    Returns:
        The fast copy, or None. Each address is compared once, when it is first used.
    """
    fast = fast_model(bridge)
    if fast is None:
        return None
    new_names = [name for name in names if name not in fast.widths]
    if new_names:
        fast.widths |= _compare(bridge, fast, new_names)
    return fast if all(fast.widths[name] is not None for name in names) else None


def address_widths(bridge: TransformerBridge, names: Sequence[str]) -> dict[str, int] | None:
    """Return the width of each address, or None where the fast copy cannot read all of them.

    Args:
        bridge: The wrapped model.
        names: Hook names of the addresses.

    Returns:
        Number of dimensions by hook name, or None.
    """
    fast = fast_model_for(bridge, names)
    return None if fast is None else {name: width for name in names if (width := fast.widths[name]) is not None}


@contextlib.contextmanager
def watch_addresses(
    bridge: TransformerBridge, fast: FastModel, watchers: Mapping[str, Watcher], *, whole: bool = True
) -> Iterator[None]:
    """Call each watcher with the activations at its address in the fast copy, while the context is open.

    Args:
        bridge: The wrapped model.
        fast: Its fast copy.
        watchers: Watcher of each address.
        whole: Whether forward passes must run to their end. Otherwise `StopForward` is raised once all addresses have
            been seen, where each is visited once.
    """
    handles = []
    if not whole and fast.single.issuperset(watchers):
        watchers = _stop_after_last(watchers)
    try:
        for name, watcher in watchers.items():
            module, side = _module(bridge, fast, name)
            if side == "in":
                handles.append(module.register_forward_pre_hook(_input_hook(watcher), with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(_output_hook(watcher)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _stop_after_last(watchers: Mapping[str, Watcher]) -> dict[str, Watcher]:
    """Wrap watchers so that the last one of a pass raises `StopForward`."""
    seen: set[str] = set()

    def wrap(name: str, watcher: Watcher) -> Watcher:
        def watch(activations: Tensor) -> None:
            watcher(activations)
            seen.add(name)
            if len(seen) == len(watchers):
                seen.clear()
                raise StopForward

        return watch

    return {name: wrap(name, watcher) for name, watcher in watchers.items()}


def _input_hook(watcher: Watcher) -> Callable[..., None]:
    def hook(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        watcher(args[0] if args else kwargs["hidden_states"])

    return hook


def _output_hook(watcher: Watcher) -> Callable[..., None]:
    def hook(module: Any, args: tuple, output: Any) -> None:
        watcher(output if isinstance(output, Tensor) else output[0])

    return hook


def _module(bridge: TransformerBridge, fast: FastModel, name: str) -> tuple[Any, str]:
    """Return the module and side of an address in the fast copy. Raises `LookupError` where there is none."""
    if name in fast.modules:
        return fast.modules[name]
    component, _, point = name.rpartition(".")
    if point not in ("hook_in", "hook_out"):
        raise LookupError(name)
    try:
        path = bridge.adapter.translate_transformer_lens_path(component)
        # Paths start at the whole model, and `base` is below it.
        prefix = base_prefix(bridge.original_model)
        module, side = fast.base.get_submodule(path.removeprefix(prefix)), point.removeprefix("hook_")
    except (ValueError, AttributeError) as error:
        raise LookupError(name) from error
    fast.modules[name] = module, side
    return module, side


@torch.no_grad()
def _compare(bridge: TransformerBridge, fast: FastModel, names: Sequence[str]) -> dict[str, int | None]:
    """Run both models on a few padded tokens. Return the width of each address, None where activations differ."""
    wrapped: Any = bridge.original_model
    recorded: dict[str, dict[str, Tensor]] = {"fast": {}, "bridge": {}}
    visits: Counter[str] = Counter()
    weight = wrapped.get_input_embeddings().weight
    ids = torch.arange(10, device=weight.device).view(2, 5) * 7919 % weight.shape[0]
    mask = torch.ones_like(ids)
    mask[0, -2:] = 0
    inputs = {
        "inputs_embeds": wrapped.get_input_embeddings()(ids),
        "attention_mask": mask,
        "position_ids": torch.arange(5, device=ids.device).expand(2, 5),
        "use_cache": False,
    }

    def recorder(model: str, name: str) -> Watcher:
        def record(activations: Any, hook: Any = None) -> None:
            recorded[model][name] = activations.detach().float()
            visits[name] += model == "fast"

        return record

    watchable = []
    for name in names:
        with contextlib.suppress(LookupError):
            _module(bridge, fast, name)
            watchable.append(name)
    with bridge.hooks(fwd_hooks=[(name, recorder("bridge", name)) for name in watchable]):
        base_of(wrapped)(**inputs)
    with watch_addresses(bridge, fast, {name: recorder("fast", name) for name in watchable}):
        fast.base(**inputs)
    fast.single |= {name for name in watchable if visits[name] == 1}
    tolerance = 1e-4 if weight.dtype == torch.float32 else 5e-2
    equal_widths: dict[str, int | None] = dict.fromkeys(names)
    for name in watchable:
        ours, theirs = recorded["fast"].get(name), recorded["bridge"].get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape or ours.ndim != 3 or len(ours) != 2:
            continue
        real = mask.bool()
        scale = theirs[real].abs().max().clamp(min=1.0)
        if bool(((ours - theirs)[real].abs().max() <= tolerance * scale).item()):
            equal_widths[name] = ours.shape[-1]
    return equal_widths
