"""Addresses name activations by their TransformerLens hook names. Unknown names raise an error."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from interp.errors import UsageError, unknown

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

_RECORD = "cotlens_hook_points"
_BLOCK = re.compile(r"^blocks\.(\d+)\.(.+)$")
# Names that TransformerLens users know, and the canonical hooks behind them.
_ALIASES = {
    "hook_resid_post": "hook_out",
    "hook_resid_pre": "hook_in",
    "hook_attn_out": "attn.hook_out",
    "hook_mlp_out": "mlp.hook_out",
}
_SITES: dict[str, tuple[str, ...]] = {
    "resid_post": ("blocks.*.hook_out",),
    "resid_pre": ("blocks.*.hook_in",),
    "attn_out": ("blocks.*.attn.hook_out",),
    "mlp_out": ("blocks.*.mlp.hook_out",),
    "final": ("ln_final.hook_out",),
    # The whole residual stream: input of the first block, output of each block, and the final state.
    "resid": ("blocks.0.hook_in", "blocks.*.hook_out", "ln_final.hook_out"),
}


@dataclass(frozen=True)
class Address:
    """One activation: a site at a layer, written as its TransformerLens hook name.

    Args:
        name: The hook name, such as `blocks.3.hook_out`. Aliases (`blocks.3.hook_resid_post`) become canonical.
    """

    name: str

    def __post_init__(self) -> None:
        block = _BLOCK.match(self.name)
        if block and block.group(2) in _ALIASES:
            object.__setattr__(self, "name", f"blocks.{block.group(1)}.{_ALIASES[block.group(2)]}")

    @property
    def layer(self) -> int | None:
        """Number of the block, from 0; None outside the blocks."""
        block = _BLOCK.match(self.name)
        return int(block.group(1)) if block else None

    @property
    def hook(self) -> str:
        """The name without its layer: `hook_out`, `attn.hook_out`, `ln_final.hook_out`."""
        block = _BLOCK.match(self.name)
        return block.group(2) if block else self.name

    @property
    def norm(self) -> Literal["pre", "post"]:
        """Side of the final norm: "post" for its output, which the unembedding reads, and "pre" for all others."""
        return "post" if self.name == "ln_final.hook_out" else "pre"

    @property
    def depth(self) -> float:
        """Position in the forward pass, for sorting and plotting: the output of block k is at k + 1."""
        if self.layer is None:
            return float("inf") if self.norm == "post" else -1.0
        inside = {"hook_in": 0.0, "attn.hook_out": 0.4, "mlp.hook_out": 0.6, "hook_out": 1.0}
        return self.layer + inside.get(self.hook, 0.5)

    @property
    def label(self) -> str:
        """Short name for axes: `in 0`, `out 2`, `final norm`."""
        if self.norm == "post":
            return "final norm"
        short = {"hook_in": "in", "hook_out": "out"}.get(self.hook, self.hook.replace(".hook", ""))
        return f"{short} {self.layer}"

    @property
    def folder(self) -> str:
        """Folder of the address in a store: `hook_out/L2`, or `ln_final.hook_out/L_` without a layer."""
        return f"{self.hook}/L{'_' if self.layer is None else self.layer}"

    def __str__(self) -> str:
        return self.name


def resolve(model: TransformerBridge, sites: str | Sequence[str], layers: Iterable[int] | None = None) -> list[Address]:
    """Return the addresses of sites, in the order of the forward pass.

    Args:
        model: The wrapped model.
        sites: One or several sites: a group (`resid_post`, `resid_pre`, `attn_out`, `mlp_out`, `final`, `resid`), a
            hook name, or a shell-style pattern over hook names, in which `*` does not match a dot.
        layers: Blocks to keep, from 0; by default all. Addresses outside the blocks are always kept.

    Raises:
        UsageError: A site matches nothing, or the model lacks a layer.
    """
    hooks = hook_points(model).names
    n_layers = model.cfg.n_layers
    wanted = None if layers is None else set(layers)
    if wanted is not None and not wanted:
        raise UsageError("expected at least one layer, got none; leave layers out to keep all of them.")
    if wanted is not None and not wanted <= set(range(n_layers)):
        raise UsageError(f"expected layers between 0 and {n_layers - 1}, got {_listed(sorted(wanted))}.")
    addresses: dict[str, Address] = {}
    sites = [sites] if isinstance(sites, str) else list(sites)
    for site in sites:
        patterns = _SITES.get(site, (str(Address(site)),))
        names = [name for pattern in patterns for name in _matching(hooks, pattern)]
        if not names:
            raise unknown("address", site, [*_SITES, *hooks])
        for name in names:
            address = Address(name)
            if wanted is None or address.layer is None or address.layer in wanted:
                addresses.setdefault(address.name, address)
    if not addresses:
        raise UsageError(
            f"expected sites at layers {_listed(sorted(wanted or ()))}, got {_listed(sites)}, which are at others; "
            "name sites of those layers, or leave layers out."
        )
    return sorted(addresses.values(), key=lambda address: (address.depth, address.name))


def _listed(values: list) -> str:
    """Return values as text, the first ten of them."""
    return f"[{', '.join(map(str, values[:10]))}{', …' if len(values) > 10 else ''}]"


@functools.lru_cache(maxsize=256)
def _matching(names: tuple[str, ...], pattern: str) -> list[str]:
    """Match names shell-style; `*` does not match a dot."""
    pattern_parts = pattern.split(".")
    split = ((name, name.split(".")) for name in names)
    return [
        name
        for name, parts in split
        if len(parts) == len(pattern_parts) and all(map(fnmatch.fnmatchcase, parts, pattern_parts))
    ]


class HookPoints:
    """The hook points of a wrapped model: their names, and whether any has extra hooks.

    TransformerLens rebuilds its list at every access, which takes longer than a short forward pass. The list does
    not change once a model is wrapped, so it is built once and kept with the model.
    """

    def __init__(self, model: TransformerBridge) -> None:
        points = model.hook_dict
        self.names = tuple(points)
        # PyTorch's own dictionaries of hooks: they show every hook that is registered later.
        registries = [hooks for point in points.values() for hooks in (point._forward_hooks, point._backward_hooks)]
        self._empty = [hooks for hooks in registries if not hooks]
        self._permanent = [(hooks, len(hooks)) for hooks in registries if hooks]

    @property
    def hooked(self) -> bool:
        """Whether there are hooks beyond those that were there when the model was wrapped."""
        return any(self._empty) or any(len(hooks) != permanent for hooks, permanent in self._permanent)


def record_hook_points(model: TransformerBridge) -> None:
    """Build the hook points of a model and keep them with it, outside its modules and state."""
    object.__setattr__(model, _RECORD, HookPoints(model))


def hook_points(model: TransformerBridge) -> HookPoints:
    """Return the hook points of a wrapped model."""
    if _RECORD not in vars(model):
        record_hook_points(model)
    return vars(model)[_RECORD]
