"""Addresses: the one way to name an activation.

An address is a TransformerLens hook name. An unknown one raises, because quietly taking the nearest
real tensor would be worse than an error.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from interp.errors import UsageError, unknown
from interp.models.hook_points import hook_points

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

_BLOCK = re.compile(r"^blocks\.(\d+)\.(.+)$")
# The names that TransformerLens users type, and the canonical hooks behind them.
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
    # The whole residual stream once: what enters the first block, what leaves each, and the final state.
    "resid": ("blocks.0.hook_in", "blocks.*.hook_out", "ln_final.hook_out"),
}


@dataclass(frozen=True)
class Address:
    """A TransformerLens hook name, its layer, and its side of the final norm.

    `norm` is `pre` for the residual stream and everything inside the blocks, `post` for the output of the
    final norm, which is what the unembedding reads and what a continuous thought feeds back.
    """

    name: str

    def __post_init__(self) -> None:
        block = _BLOCK.match(self.name)
        if block and block.group(2) in _ALIASES:
            object.__setattr__(self, "name", f"blocks.{block.group(1)}.{_ALIASES[block.group(2)]}")

    @property
    def layer(self) -> int | None:
        block = _BLOCK.match(self.name)
        return int(block.group(1)) if block else None

    @property
    def hook(self) -> str:
        """The name without its layer: `hook_out`, `attn.hook_out`, `ln_final.hook_out`."""
        block = _BLOCK.match(self.name)
        return block.group(2) if block else self.name

    @property
    def norm(self) -> Literal["pre", "post"]:
        return "post" if self.name == "ln_final.hook_out" else "pre"

    @property
    def depth(self) -> float:
        """Where it stands in the forward pass, for sorting and plotting: block k's output is k + 1."""
        if self.layer is None:
            return float("inf") if self.norm == "post" else -1.0
        inside = {"hook_in": 0.0, "attn.hook_out": 0.4, "mlp.hook_out": 0.6, "hook_out": 1.0}
        return self.layer + inside.get(self.hook, 0.5)

    @property
    def label(self) -> str:
        """A short name for axes: `in 0`, `out 2`, `final`."""
        if self.norm == "post":
            return "final norm"
        short = {"hook_in": "in", "hook_out": "out"}.get(self.hook, self.hook.replace(".hook", ""))
        return f"{short} {self.layer}"

    @property
    def folder(self) -> str:
        """Where a store keeps it: `hook_out/L2`, or `ln_final.hook_out/L_` without a layer."""
        return f"{self.hook}/L{'_' if self.layer is None else self.layer}"

    def __str__(self) -> str:
        return self.name


def resolve(model: TransformerBridge, sites: str | Sequence[str], layers: Iterable[int] | None = None) -> list[Address]:
    """The addresses that `sites` name, in the order of the forward pass.

    A site is a group (`resid_post`, `resid_pre`, `attn_out`, `mlp_out`, `final`, `resid`), a hook name, or a
    shell-style pattern over hook names. `layers` keeps only those blocks. Raises `UsageError` when a site
    names nothing, or a layer is not there.
    """
    hooks = hook_points(model).names
    n_layers = model.cfg.n_layers
    wanted = None if layers is None else set(layers)
    if wanted is not None and not wanted <= set(range(n_layers)):
        raise UsageError(f"layers must lie between 0 and {n_layers - 1}, but {sorted(wanted)} came.")
    found: dict[str, Address] = {}
    for site in [sites] if isinstance(sites, str) else sites:
        patterns = _SITES.get(site, (str(Address(site)),))
        names = [name for pattern in patterns for name in _matching(hooks, pattern)]
        if not names:
            raise unknown("address", site, [*_SITES, *hooks])
        for name in names:
            address = Address(name)
            if wanted is None or address.layer is None or address.layer in wanted:
                found.setdefault(address.name, address)
    return sorted(found.values(), key=lambda address: (address.depth, address.name))


@functools.lru_cache(maxsize=256)
def _matching(names: tuple[str, ...], pattern: str) -> list[str]:
    """Shell-style matching in which `*` stays between two dots."""
    wanted = pattern.split(".")
    split = ((name, name.split(".")) for name in names)
    return [n for n, parts in split if len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))]
