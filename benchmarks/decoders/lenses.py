"""The measures of group `lenses`: the Jacobian lens against others' figures, keys and values, and search over lenses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import interp
from interp.decoders.jacobian.estimate import Positions
from interp.decoders.jacobian.fitting import fit_jacobians
from interp.models.address import Address
from interp.reasoners import Intervention, Reasoner
from interp.reasoners.interventions import add
from interp.reasoners.replayer import PartialTrace
from interp.statistics.estimates import Estimate
from interp.traces import Channel, Trace, TraceSet

PARITY_ON = "chain-coconut"
N_CONTEXTS, SKIPPED = 20, 1
STEP_LENGTH = 1e-3  # of finite differences, in float64: it crosses no kink of a ReLU
LENSES = ("logit_lens", "tuned_lens")
# Problems whose thoughts are swapped, for each organism.
N_SWAPPED = 250


def kv_rows(reasoner: Reasoner, traces: TraceSet) -> list[dict[str, Any]]:
    """Return what comes of another problem's keys and values at a thought, for each step counted from the last.

    The answer reads the last thought by its keys and values alone. An earlier thought also passes its value on through
    its own residual stream, from which the next thought is made.

    Args:
        reasoner: The organism.
        traces: Its traces.

    Returns:
        Rows: edit, before_last (thoughts between the step and the answer), followed, changed, n.
    """
    edits = ("other value", "same value", "wrong site", "random vector")
    table = interp.interchange(reasoner, traces[:N_SWAPPED], address="cache", edits=edits).table()
    table = table.assign(before_last=table["n_steps"] - table["step"])
    rows = []
    for (edit, before_last), part in table.groupby(["edit", "before_last"]):
        followed, changed = (
            Estimate.of_mean(part[column].to_numpy(float), part["structure"].to_numpy())
            for column in ("followed", "changed")
        )
        rows.append(
            {
                "edit": edit,
                "before_last": int(before_last),
                "followed": followed.measure(),
                "changed": changed.measure(),
                "n": len(part),
            }
        )
    return rows


def figures(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the measures of the group.

    Args:
        results: One result for each organism and training seed that solves its task, with `kv` and `search` rows.
    """
    values = {"lenses.jlens_parity": jlens_parity()}
    continuous = [result for result in results if result.get("kv") and result["kind"] == "continuous"]
    last = {
        edit: [
            (row, result)
            for result in continuous
            for row in result["kv"]
            if row["edit"] == edit and not row["before_last"]
        ]
        for edit in ("other value", "wrong site", "same value", "random vector")
    }
    if last["other value"]:
        row, result = min(last["other value"], key=lambda pair: pair[0]["followed"]["value"])
        by_organism = ", ".join(f"{of['organism']} {_range(of)}" for of in results if of.get("kv"))
        same, random = ([row["changed"]["value"] for row, _ in last[edit]] for edit in ("same value", "random vector"))
        values["lenses.kv_sufficiency"] = {
            **row["followed"],
            "note": f"the last thought, worst: {result['organism']}; the last thought, then earlier ones: {by_organism}; "
            f"donors of the same value change at most {max(same):.3f}, random vectors at least {min(random):.3f}",
        }
        row, result = max(last["wrong site"], key=lambda pair: pair[0]["followed"]["value"])
        values["lenses.kv_competitor"] = {
            **row["followed"],
            "note": f"the last thought's swap, worst: {result['organism']}",
        }
    found = [
        (row, result)
        for result in results
        for row in result["search"]
        if row["method"] in LENSES and row["step"] == 0 and row.get("gain") is not None
    ]
    best: dict[str, Any] = {}
    for row, result in found:
        if result["organism"] not in best or row["gain"] > best[result["organism"]]["gain"]:
            best[result["organism"]] = row
    read = {name: row for name, row in best.items() if not name.endswith("-hard")}
    if read:
        name, row = min(read.items(), key=lambda pair: pair[1]["gain"])
        every = "; ".join(
            f"{of} by {row['method']}: {row['whole']:.3f} with the search, {row['whole_unconstrained']:.3f} without, "
            f"{row['whole_shuffled']:.3f} over another problem's read-outs"
            for of, row in best.items()
        )
        values["lenses.search_gain"] = {
            "value": row["gain"],
            "ci": [row["gain_low"], row["gain_high"]],
            "n": row["n"],
            "note": f"worst organism that a lens reads: {name}. {every}",
        }
    return values


def _range(result: dict[str, Any]) -> str:
    """Return how often answers follow the last thought's keys and values, and the range of earlier thoughts."""
    of = {row["before_last"]: row["followed"]["value"] for row in result["kv"] if row["edit"] == "other value"}
    earlier = [value for before_last, value in of.items() if before_last]
    return f"{of.get(0, float('nan')):.2f}" + (f" ({min(earlier):.2f}–{max(earlier):.2f})" if earlier else "")


def jlens_parity() -> dict[str, Any]:
    """Return the largest relative difference to the lens of transformer_lens and to finite differences."""
    from transformer_lens.tools.analysis import JacobianLens as ReferenceLens

    reasoner = interp.load(PARITY_ON)
    problems = reasoner.task.generate(N_CONTEXTS, seed=3, split="train")
    questions = [problem.question for problem in problems]
    reference = ReferenceLens.fit(
        reasoner.model, questions, corpus="questions", skip_first_positions=SKIPPED, show_progress=False
    )
    ids = [reasoner.model.to_tokens(question)[0].tolist() for question in questions]
    contexts = [PartialTrace(row, [Channel.PROMPT] * len(row), None) for row in ids]
    ours = fit_jacobians(reasoner, contexts, positions=Positions(SKIPPED))
    theirs = max(relative(ours.matrices[layer], reference.jacobians[layer]) for layer in reference.source_layers)
    differences = finite_difference_gap(PARITY_ON, reasoner.think(problems[:1])[0])
    return {
        "value": max(theirs, differences),
        "n": len(contexts),
        "note": f"{PARITY_ON}: {theirs:.1e} to transformer_lens on its questions, {differences:.1e} to finite differences "
        "at its thoughts",
    }


def finite_difference_gap(organism: str, trace: Trace) -> float:
    """Return by how much the lens at a trace's thoughts differs from finite differences, relative, worst layer.

    Args:
        organism: Name of an organism with continuous thoughts.
        trace: One of its traces.
    """
    reasoner = interp.load(organism)
    reasoner.model.double()  # differences of float32 sums would lose most digits
    latents = [k for k, channel in enumerate(trace.channel) if channel == "latent"]
    lens = fit_jacobians(reasoner, [trace], positions=Positions(0, ("latent",)))
    last = f"blocks.{reasoner.model.cfg.n_layers - 1}.hook_out"

    def outputs(moves: list[Intervention]) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        reasoner.replay([trace], hooks={last: lambda acts, batch: seen.append(acts[0].clone())}, interventions=moves)
        return seen[0][: len(trace) - 1].double().sum(dim=0)  # the last position is no target

    gaps = []
    for layer, matrix in lens.matrices.items():
        direction = torch.randn(
            matrix.shape[1], generator=torch.Generator().manual_seed(layer), dtype=torch.float64
        ).numpy()
        direction /= np.linalg.norm(direction)
        changes = []
        for latent in latents:
            at = np.array([(0, latent)])
            up, down = (
                outputs([Intervention(Address(f"blocks.{layer}.hook_out"), at, add(sign * STEP_LENGTH * direction))])
                for sign in (1, -1)
            )
            changes.append((up - down) / (2 * STEP_LENGTH))
        gaps.append(relative(matrix.double() @ torch.from_numpy(direction), torch.stack(changes).mean(dim=0)))
    return max(gaps)


def relative(one: torch.Tensor, two: torch.Tensor) -> float:
    """Return the largest difference between two tensors over the largest value of the second."""
    return float((one - two).abs().max() / two.abs().max())
