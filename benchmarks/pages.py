"""Write measured figures into the pages of docs/: `python -m benchmarks.pages [RUN]`.

Fills the marked parts of these pages from the organisms' cards and from `benchmarks/results/`, so that no figure is
typed by hand. With the folder of a demo's run, its measures are first copied to `benchmarks/results/demo.json`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.decoders.table import decoder_table
from benchmarks.decoders.transfer import transfer_table
from benchmarks.faithfulness.page import faithfulness_table
from benchmarks.harness import keep, kept_result
from benchmarks.sae.answer import sae_answer
from benchmarks.shown import other_seeds, peer_of
from dashboards.runs import Run
from interp.organisms.catalog import card, recipe, shipped
from interp.runtime import palette

ROOT = Path(__file__).parent.parent
_LONGEST = 400  # characters of a note; enough for every control
_READABLE = ("read", "same_value_changes", "other_value_follows")


def main(run_folder: str | None = None) -> None:
    """Fill the marked parts of the pages.

    Args:
        run_folder: Folder of a demo's run, to take its figures from. They stay as they are by default.
    """
    figures = {
        "readable": _readable(),
        "papers": _measured("papers"),
        "probes": f"{_measured('probes')}\n\n{_growth()}",
        "sae": f"{sae_answer()}\n\n{_measured('sae')}",
        "dash": _measured("dash"),
    }
    if run_folder:
        run = Run(run_folder).info
        figures["figures"] = _figures(run)
        versions = run["versions"]  # those that the run was made with
        keep("demo", run["measures"], versions=versions, steps=run["steps"], comparisons=run["comparisons"])
    decoders = kept_result("decoders", required=True)
    figures["decoders"] = f"{decoder_table(decoders['organisms'])}\n\n{_measured('decoders')}"
    _fill_page("docs/figures.md", figures)
    _fill_page("README.md", {"readable": _readable_in_short()})
    _fill_page("docs/organisms.md", {"organisms": _organisms()})
    _fill_page("docs/decoders.md", {"transfer": transfer_table(decoders.get("transfer", []))})
    judged = f"{faithfulness_table(kept_result('faithfulness', required=True))}\n\n{_measured('faithfulness')}"
    _fill_page("docs/faithfulness.md", {"faithfulness": judged})
    contests = [_measured(name, peers=True) for name in ("capture", "store")]
    _fill_page("docs/capture.md", {"contests": "\n\n".join(contests)})


def _fill_page(name: str, parts: dict[str, str]) -> None:
    """Fill marked parts of a page."""
    page = ROOT / name
    text = page.read_text(encoding="utf-8")
    for part, content in parts.items():
        text = _fill(text, part, content)
    page.write_text(text, encoding="utf-8")


def _readable() -> str:
    """Return the table of the picture on the front page."""
    lines = [
        "| place | read by a linear probe, worst step | answers changed by a same-value donor | answers that follow "
        "another value |",
        "|---|---|---|---|",
    ]
    for row in kept_result("readable", required=True)["places"]:
        cells = [f"{row[key]['value']:.3f} {_ci([row[key]['low'], row[key]['high']])}" for key in _READABLE]
        lines.append(f"| {row['place']} (`{row['address']}`) | {' | '.join(cells)} |")
    return "\n".join(lines)


def _readable_in_short() -> str:
    """Return the numbers of that picture, for a front page that is shown where the picture is not."""
    lines = ["| place | read by a linear probe | answers changed by a same-value donor |", "|---|---|---|"]
    for row in kept_result("readable", required=True)["places"]:
        read, changed = (row[key]["value"] for key in ("read", "same_value_changes"))
        lines.append(f"| {row['place']} | {read:.2f} | {changed:.2f} |")
    return "\n".join(lines)


def _figures(run: dict[str, Any]) -> str:
    """Return the table of the demo's figures."""
    edits, chance = run["interchange"], run["chance"]
    by_name = {other["organism"]: other for other in run["comparisons"]}
    direct, pause = by_name["chain-direct"], by_name["chain-pause-as-thought"]
    lines = [
        "| held-out figure | measured | beside it |",
        "|---|---|---|",
        f"| answers right | **{run['accuracy']:.3f}** {_ci(run['ci'])} | without thinking {direct['accuracy']:.3f}, "
        f"pauses in place of thoughts {pause['accuracy']:.3f}, chance {chance:.2f} |",
    ]
    for step in run["steps"]:
        lines.append(
            f"| step {step['step']} read from thought {step['step']}, linear probe | **{step['probe_top1']:.3f}** "
            f"{_ci(step['ci'])} | question only {step['question_only']:.3f}, another problem's thought "
            f"{step['other_problem']:.3f}, untrained twin {step['random_init']:.3f} |"
        )
    worst = min(run["steps"], key=lambda step: step["sae_top1"])
    rivals = ", ".join(
        f"{palette.label(name)} {min(step[f'{name}_top1'] for step in run['steps']):.3f}"
        for name in ("random_dictionary", "pca", "neurons", "logit_lens")
    )
    lines += [
        f"| the worst step by sparse autoencoder, one feature a value | **{worst['sae_top1']:.3f}** "
        f"{_ci(worst['sae_ci'])} | {rivals} |",
        f"| a donor's thought makes the answer what its value implies | **{edits['follow_rate']:.3f}** {_ci(edits['ci'])} | "
        f"same-value donors change {edits['same_value_change_rate']:.3f} {_ci(edits['same_value_ci'])} |",
        f"| the same edits on `chain-pause-as-thought` | {pause['interchange']['follow_rate']:.3f} "
        f"{_ci(pause['interchange']['ci'])} | its best-read step "
        f"{max(step['probe_top1'] for step in pause['steps']):.3f}, worst {min(step['probe_top1'] for step in pause['steps']):.3f} |",
        f"| the whole demo | {run['seconds']:.0f} s, {run['peak_rss_mb']:.0f} MB | 2 cores, no GPU |",
    ]
    return "\n".join(lines)


def _measured(name: str, *, peers: bool = False) -> str:
    """Return the table of a bench's measures with their notes, and with their peers where `peers` is true."""
    lines = ["| figure | measured | target | beside it |", "|---|---|---|---|"]
    for row in kept_result(name, required=True)["measures"]:
        value = row["value"]
        measured = (
            "not measured" if value is None else f"**{value:.3g}**" + (f" {_ci(row['ci'])}" if row.get("ci") else "")
        )
        if seeds := other_seeds(row):
            measured += f"; other training seeds {seeds}"
        note = _short(row.get("note") or "", f"../benchmarks/results/{name}.json")
        note = "; ".join(part for part in (peer_of(row) if peers else "", note) if part)
        lines.append(f"| {row['says']} | {measured} | {row['op']} {row['target']:g} | {note} |")
    return "\n".join(lines)


def _short(note: str, where: str) -> str:
    """Return a note that fits into a cell; a long one is cut, with a link to the whole note at `where`."""
    if len(note) <= _LONGEST:
        return note
    measured, left_out, why = note.partition("not measured: ")
    end = max(measured.rfind(between, 0, _LONGEST) for between in ("; ", ". "))
    return f"{measured[: end if end > 0 else _LONGEST]} … ([all of it]({where})){'; ' + left_out + why if left_out else ''}"


def _growth() -> str:
    """Return sentences about how the solver's time grows."""
    growth = kept_result("probes", required=True)["growth"]["summary"]
    return (
        f"One target on 20,000 rows of width 256 takes {growth['seconds_for_one_target']:.2f} s, and each further one "
        f"{1000 * growth['seconds_per_further_target']:.0f} ms. With 20 targets that is {growth['over_floor']:.1f} times the "
        "floor: one pass for the second moments, one factorisation, and one pass for scores and gradients."
    )


def _organisms() -> str:
    """Return the table of shipped organisms."""
    rows = ["| name | how it thinks | answers right | 95 % |", "|---|---|---|---|"]
    for name in shipped():
        measured = card(name)
        rows.append(f"| `{name}` | {recipe(name).summary} | {measured['accuracy']:.3f} | {_ci(measured['ci'])} |")
    return "\n".join(rows)


def _ci(pair: list[float]) -> str:
    """Return an interval as text."""
    return f"[{pair[0]:.3f}, {pair[1]:.3f}]"


def _fill(text: str, name: str, content: str) -> str:
    """Put `content` between the two markers of `name`; raises `SystemExit` where they are missing."""
    pattern = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"expected the markers <!-- {name}: begin --> and <!-- {name}: end --> in the page, got none.")
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


if __name__ == "__main__":
    main(*sys.argv[1:2])
