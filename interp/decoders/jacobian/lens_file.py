"""Files of Jacobian lenses (`.pt`), in the format of the reference implementation and of transformer_lens.

A finished lens has `J` (layer to matrix), `n_prompts`, `source_layers`, `d_model` and `metadata`. A fit under way has
`jacobian_sum`, `n_done`, `next_idx` and the rest. A lens for a few tokens, which only this project writes, has `rows` and
`candidates` in place of `J`. Files are read as tensors and plain values only.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.decoders.jacobian.candidates import N_RANDOM
from interp.decoders.lens_files import check_weights, checked_matrix, load_pickled
from interp.errors import StoreError, UsageError
from interp.runtime.files import commit
from interp.runtime.written import refuse_other_kinds

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

WHAT = "Jacobian lens"
# What may differ between lenses that are merged.
_OF_THE_SLICE = ("n_prompts", "corpora", "corpus", "transformer_lens_version", "dim_batch")


@dataclass(frozen=True)
class LensFile:
    """A Jacobian lens without its model.

    Attributes:
        matrices: For each block J, shape (d_model, d_model), or the products of the candidates' vectors with it, shape
            (rows, d_model).
        n_contexts: Number of contexts that it averages over.
        candidates: Token ids, where only their rows were fitted.
        metadata: What it was fitted to: plain values.
        next_context: For a fit under way, the number of contexts that it has looked at.
    """

    matrices: dict[int, Float[Tensor, "rows d_model"]]
    n_contexts: int
    candidates: tuple[int, ...] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    next_context: int | None = None

    @property
    def width(self) -> int:
        """The width of the residual stream."""
        return next(iter(self.matrices.values())).shape[1]

    def write(self, path: Path | str, *, dtype: torch.dtype = torch.float32) -> None:
        """Write the lens atomically.

        Args:
            path: The file.
            dtype: Of the matrices. The reference writes float16.
        """
        shared: dict[str, Any] = {"source_layers": sorted(self.matrices), "d_model": self.width}
        shared["metadata"] = {**self.metadata, "n_prompts": self.n_contexts}
        if self.candidates is not None:
            shared["candidates"] = list(self.candidates)
        stored = {layer: matrix.to(dtype).contiguous() for layer, matrix in sorted(self.matrices.items())}
        if self.next_context is not None:
            sums = {layer: matrix.float() * self.n_contexts for layer, matrix in sorted(self.matrices.items())}
            shared |= {"jacobian_sum": sums, "n_done": self.n_contexts, "next_idx": self.next_context}
            shared |= {key: self.metadata[key] for key in ("target_layer",) if key in self.metadata}
            shared["skip_first"] = self.metadata.get("skip_first_positions", 0)
        else:
            shared |= {"rows" if self.candidates is not None else "J": stored, "n_prompts": self.n_contexts}
        buffer = io.BytesIO()
        torch.save(shared, buffer)
        commit(Path(path), buffer.getvalue())

    @classmethod
    def read(cls, path: Path | str, *, checked: bool = True) -> LensFile:
        """Read a lens, or a fit under way.

        Args:
            path: Its file.
            checked: Read the matrices and check them. Without it they are mapped from disk and not looked at, and those
                of a fit under way are sums; what the lens says of itself can then be had at once.

        Raises:
            StoreError: It is no file of a Jacobian lens, or damaged.
        """
        path = Path(path)
        refuse_other_kinds(path, f"a {WHAT}", "fit one with `cotlens lens fit`")
        if not path.is_file():
            raise StoreError(f"expected a {WHAT} in {path}, got no file; fit one and save it there.")
        content = load_pickled(path, WHAT, mapped=not checked)
        key = next((k for k in ("J", "rows", "jacobian_sum") if isinstance(content, dict) and k in content), None)
        if key is None:
            raise StoreError(
                f"expected a {WHAT} in {path} with J, rows or jacobian_sum, got something else; name another file."
            )
        metadata = content.get("metadata") or {}
        n = content.get("n_done" if key == "jacobian_sum" else "n_prompts", 0)
        next_context = content.get("next_idx") if key == "jacobian_sum" else None
        candidates = content.get("candidates")
        plain = isinstance(metadata, dict) and isinstance(n, int) and n >= 0
        plain = plain and (candidates is None or _are_ids(candidates)) and isinstance(next_context, int | None)
        if not plain or not isinstance(content[key], dict) or not content[key] or not _are_ids(content[key]):
            raise StoreError(f"expected layers, a count and metadata in the {WHAT} {path}, got others; it is damaged.")
        width = content.get("d_model", getattr(next(iter(content[key].values())), "shape", (0,))[-1:] or (0,))
        width = width if isinstance(width, int) else int(width[0])
        rows = width if candidates is None else len(candidates) + N_RANDOM
        if not checked:
            return cls(content[key], n, None if candidates is None else tuple(candidates), metadata, next_context)
        matrices = {k: checked_matrix(m, (rows, width), f"{key}[{k}]", path) for k, m in content[key].items()}
        if key == "jacobian_sum":
            if n == 0:
                raise StoreError(f"expected a fit of at least one context in {path}, got none; fit it further.")
            matrices = {layer: matrix / n for layer, matrix in matrices.items()}
            metadata = {"target_layer": content["target_layer"], **metadata} if "target_layer" in content else metadata
        return cls(matrices, n, None if candidates is None else tuple(candidates), metadata, next_context)

    def check_model(self, reasoner: Reasoner, where: Path | str, *, transfer: bool = False) -> None:
        """Check that the lens is one of this model; a warning says what remains an assumption.

        Args:
            reasoner: The model.
            where: The file, for the message.
            transfer: Allow a lens of other weights.

        Raises:
            StoreError: It is a lens of another model.
        """
        model, last = reasoner.model.cfg, reasoner.model.cfg.n_layers - 1
        if self.width != model.d_model or not set(self.matrices) <= set(range(last)):
            raise StoreError(
                f"expected a {WHAT} of width {model.d_model} for layers 0 to {last - 1} ({reasoner.name}), got width "
                f"{self.width} and layers {min(self.matrices)} to {max(self.matrices)} in {where}; load the model that it "
                "was fitted to."
            )
        if self.metadata.get("target_layer", last) != last:
            raise StoreError(
                f"expected a {WHAT} that ends at layer {last}, got {self.metadata['target_layer']} in {where}; fit one that "
                "does."
            )
        name = self.metadata.get("reasoner") or self.metadata.get("model_name")
        check_weights(
            self.metadata.get("weights"),
            reasoner,
            what=WHAT,
            of=str(name or "it names no model"),
            where=where,
            compared="sizes were",
            transfer=transfer,
        )


def merge(lenses: Sequence[LensFile]) -> LensFile:
    """Return the lens of all contexts of lenses that were fitted to different ones.

    Args:
        lenses: Lenses of one model, with the same layers, positions and candidates.

    Raises:
        UsageError: There are none, they differ in more than their contexts, or two share contexts.
    """
    if not lenses or any(lens.n_contexts < 1 for lens in lenses):
        raise UsageError("expected lenses that say how many contexts they were fitted to, got none; fit some.")
    first = lenses[0]
    for lens in lenses[1:]:
        differing = _differing(_shared(first), _shared(lens))
        if differing:
            raise UsageError(
                f"expected lenses of one model and one kind of fit, got two that differ in {', '.join(differing)}; merge "
                "only lenses that differ in their contexts."
            )
    corpora = [corpus for lens in lenses for corpus in lens.metadata.get("corpora", [])]
    if len(set(corpora)) < len(corpora):
        raise UsageError("expected lenses of different contexts, got two of the same ones; each may count only once.")
    total = sum(lens.n_contexts for lens in lenses)
    matrices = {
        layer: torch.stack([lens.matrices[layer] * (lens.n_contexts / total) for lens in lenses]).sum(dim=0)
        for layer in first.matrices
    }
    return LensFile(matrices, total, first.candidates, {**first.metadata, "corpora": corpora, "n_prompts": total})


def _shared(lens: LensFile) -> dict[str, Any]:
    """Return what lenses that are merged have to share."""
    same = {key: value for key, value in lens.metadata.items() if key not in _OF_THE_SLICE}
    return {**same, "layers": sorted(lens.matrices), "candidates": lens.candidates, "width": lens.width}


def _differing(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*one, *two} if one.get(key) != two.get(key))


def _are_ids(values: Any) -> bool:
    return isinstance(values, (list, tuple, dict)) and all(type(v) is int and v >= 0 for v in values)
