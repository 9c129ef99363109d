"""The plain model beside a wrapped one: the same tensors in Hugging Face's own modules, for bulk work.

TransformerLens's Bridge gives every activation a name and lets it be changed, at a cost of Python per hook point
(twice the forward pass for one short sequence). Where nothing is changed, the plain model runs at its own speed,
and what an address names there is a module's input or output. That the two mean the same is checked, not assumed:
on the first use of an address both models run on a few tokens, and an address that differs is read through Bridge.
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

from interp.models.hook_points import hook_points
from interp.models.moving import move

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

_PLAIN = "cotlens_plain"
Watcher = Callable[[Float[Tensor, "batch pos d"]], None]


class StopForward(Exception):  # noqa: N818 (no error, as StopIteration is none)
    """Ends a pass in which everything that was to be watched has passed: what lies above need not be computed."""


@dataclass
class FastModel:
    """`base` is the plain model without its unembedding; `widths` are the addresses known to mean the same in it.

    `modules` are the modules, and their sides, that addresses name; `buffers` are those of all its modules that have any;
    `single` are the addresses that one pass comes by once.
    """

    base: Any
    buffers: list[dict[str, Any]] = field(init=False)
    widths: dict[str, int | None] = field(default_factory=dict)
    modules: dict[str, tuple[Any, str]] = field(default_factory=dict)
    single: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.buffers = [module._buffers for module in self.base.modules() if module._buffers]

    @property
    def together(self) -> bool:
        """Whether its buffers are where its parameters are, which `bridge.to` moves, for they are shared."""
        device = self.base.get_input_embeddings().weight.device
        return all(each is None or each.device == device for some in self.buffers for each in some.values())


def attach(bridge: TransformerBridge, twin: Any) -> None:
    """Keep the plain model at its wrapped one, outside its modules and its state."""
    object.__setattr__(bridge, _PLAIN, FastModel(twin.base_model))


def fast_model(bridge: TransformerBridge) -> FastModel | None:
    """The plain model of a wrapped one, or None where its weights were moved or changed since, or something is hooked."""
    found: FastModel | None = vars(bridge).get(_PLAIN)
    if found is None or hook_points(bridge).hooked:
        return None
    wrapped: Any = bridge.original_model
    ours, theirs = (model.get_input_embeddings().weight for model in (found.base, wrapped))
    return found if ours.device == theirs.device and ours.dtype == theirs.dtype and found.together else None


def take_to(bridge: TransformerBridge, device: torch.device, *others: torch.nn.Module) -> None:
    """Take a wrapped model, its plain one and `others` to a device."""
    found: FastModel | None = vars(bridge).get(_PLAIN)
    wrapped: Any = bridge.original_model
    move([bridge, wrapped, *([] if found is None else [found.base]), *others], device)
    bridge.cfg.device = str(device)


def fast_model_for(bridge: TransformerBridge, names: Sequence[str]) -> FastModel | None:
    """The plain model, where it can run now and every one of these addresses means the same in it."""
    plain = fast_model(bridge)
    if plain is None:
        return None
    unknown = [name for name in names if name not in plain.widths]
    if unknown:
        plain.widths |= _compared(bridge, plain, unknown)
    return plain if all(plain.widths[name] is not None for name in names) else None


def widths(bridge: TransformerBridge, names: Sequence[str]) -> dict[str, int] | None:
    """How many numbers each address holds at a position, or None unless all mean the same in the plain model."""
    plain = fast_model_for(bridge, names)
    return None if plain is None else {name: width for name in names if (width := plain.widths[name]) is not None}


@contextlib.contextmanager
def watching(
    bridge: TransformerBridge, plain: FastModel, watchers: Mapping[str, Watcher], *, whole: bool = True
) -> Iterator[None]:
    """Show each watcher what passes its address in the plain model; hooks are removed whatever happens.

    A pass that need not be `whole` ends with `SeenEnough` once it has come by every address, where it comes by each
    of them once.
    """
    handles = []
    if not whole and plain.single.issuperset(watchers):
        watchers = _ending(watchers)
    try:
        for name, watcher in watchers.items():
            module, side = _module(bridge, plain, name)
            if side == "in":
                handles.append(module.register_forward_pre_hook(_entering(watcher), with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(_leaving(watcher)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _ending(watchers: Mapping[str, Watcher]) -> dict[str, Watcher]:
    """The same watchers, of which the last that a pass comes by ends it."""
    came: set[str] = set()

    def of(name: str, watcher: Watcher) -> Watcher:
        def watch(found: Tensor) -> None:
            watcher(found)
            came.add(name)
            if len(came) == len(watchers):
                came.clear()
                raise StopForward

        return watch

    return {name: of(name, watcher) for name, watcher in watchers.items()}


def _entering(watcher: Watcher) -> Callable[..., None]:
    def hook(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        watcher(args[0] if args else kwargs["hidden_states"])

    return hook


def _leaving(watcher: Watcher) -> Callable[..., None]:
    def hook(module: Any, args: tuple, output: Any) -> None:
        watcher(output if isinstance(output, Tensor) else output[0])

    return hook


def _module(bridge: TransformerBridge, plain: FastModel, name: str) -> tuple[Any, str]:
    """The plain module whose input or output an address names. Raises `LookupError` where there is none."""
    if name in plain.modules:
        return plain.modules[name]
    component, _, point = name.rpartition(".")
    if point not in ("hook_in", "hook_out"):
        raise LookupError(name)
    try:
        path = bridge.adapter.translate_transformer_lens_path(component)
        # Paths start at the whole model, and `base` is the part of it below the unembedding.
        prefix = f"{bridge.original_model.base_model_prefix}."
        found = plain.base.get_submodule(path.removeprefix(prefix)), point.removeprefix("hook_")
    except (ValueError, AttributeError) as error:
        raise LookupError(name) from error
    plain.modules[name] = found
    return found


@torch.no_grad()
def _compared(bridge: TransformerBridge, plain: FastModel, names: Sequence[str]) -> dict[str, int | None]:
    """Both models on a few tokens with padding: the width of each address that is the same in both, else None."""
    wrapped: Any = bridge.original_model
    seen: dict[str, dict[str, Tensor]] = {"plain": {}, "bridge": {}}
    came: Counter[str] = Counter()
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

    def noting(where: str, name: str) -> Watcher:
        def note(found: Any, hook: Any = None) -> None:
            seen[where][name] = found.detach().float()
            came[name] += where == "plain"

        return note

    there = []
    for name in names:
        with contextlib.suppress(LookupError):
            _module(bridge, plain, name)
            there.append(name)
    with bridge.hooks(fwd_hooks=[(name, noting("bridge", name)) for name in there]):
        wrapped.base_model(**inputs)
    with watching(bridge, plain, {name: noting("plain", name) for name in there}):
        plain.base(**inputs)
    plain.single |= {name for name in there if came[name] == 1}
    tolerance = 1e-4 if weight.dtype == torch.float32 else 5e-2
    found: dict[str, int | None] = dict.fromkeys(names)
    for name in there:
        ours, theirs = seen["plain"].get(name), seen["bridge"].get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape or ours.ndim != 3 or len(ours) != 2:
            continue
        real = mask.bool()
        scale = theirs[real].abs().max().clamp(min=1.0)
        if bool(((ours - theirs)[real].abs().max() <= tolerance * scale).item()):
            found[name] = ours.shape[-1]
    return found
