"""`cotlens subtext`: what the words of a chain of thought, and the latents behind it, say beyond what is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interp.commands.models import AS_USUAL, Loading, Model
from interp.commands.options import with_options
from interp.errors import QualityError, UsageError
from interp.runtime.console import AsJson, Bars, emit, new_app, print_table
from probes.commands.foresight import compute_command, foresight_command, uncertainty_command
from probes.commands.options import Sampled, Synonyms, Target, TraceOptions

if TYPE_CHECKING:
    from interp.text.wording import Wording
    from interp.traces import TraceSet

app = new_app(
    "Information in a chain of thought that its text does not carry: how much, where, and whether it matters."
)
app.command("foresight")(foresight_command)
app.command("compute")(compute_command)
app.command("uncertainty")(uncertainty_command)


@app.command("measure")
@with_options
def measure_command(
    model: Model,
    asked: Sampled = Sampled(),
    target: Target = None,
    synonyms: Synonyms = None,
    latents: Annotated[
        list[str] | None, typer.Option(help="also the latents at this place, as 'question end'; repeatable")
    ] = None,
    address: Annotated[list[str] | None, typer.Option(help="repeatable; all blocks and the final state")] = None,
    power: Annotated[bool, typer.Option(help="say what this sample would have seen")] = True,
    fail_over: Annotated[
        float | None, typer.Option(help="exit with 4 if all targets together exceed so many bits")
    ] = None,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Bits about each target in the choice of words beyond their meaning, and in latents beyond question and text."""
    from probes.subtext.measure import measure

    with Bars() as bars:
        reasoner, thought = asked.thought(bars, loading, model, temperature=asked.temperature)
        wording = _wording(thought, synonyms, needed=not latents)
        with bars.stage("measuring, with controls and power" if power else "measuring, with controls"):
            found = measure(
                thought,
                target,
                wording=wording,
                reasoner=reasoner if latents else None,
                places=latents or (),
                addresses=address,
                with_power=power,
                seed=asked.seed,
            )

    def human() -> None:
        print_table(found.table.drop(columns=["structures"]))
        for channel, total in found.total.items():
            low, high = total["ci"]
            print(
                f"\n{channel}: {total['bits']:.3f} bits [{low:.3f}, {high:.3f}] about all targets together, n = {total['n']}"
            )
            print(total.get("power", "power was not asked for, so nothing that was not found may be called absent"))

    emit({"table": found.table.to_dict("records"), "total": found.total, "notes": found.notes}, as_json, human)
    worst = max(total["bits"] for total in found.total.values())
    if fail_over is not None and worst > fail_over:
        raise QualityError(f"{worst:.3f} bits were found, more than {fail_over}.")


@app.command("locate")
@with_options
def locate_command(
    model: Model,
    asked: Sampled = Sampled(),
    target: Target = None,
    synonyms: Synonyms = None,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Which words carry it, which synonyms say what, which layers hold it; and whether knocking them out closes it."""
    from probes.subtext.locate import locate

    with Bars() as bars:
        reasoner, thought = asked.thought(bars, loading, model, temperature=asked.temperature)
        with bars.stage("locating"):
            found = locate(thought, _known(thought, synonyms), target, reasoner=reasoner, seed=asked.seed)

    def human() -> None:
        print(f"carrying words: {', '.join(map(str, found.places)) or 'none'} (q < 0.01)")
        shown = found.cells[found.cells["carrying"]] if found.places else found.cells
        print_table(shown[["place", "target", "bits", "ci_low", "ci_high", "q", "n"]])
        for frame in (found.synonyms, found.layers):
            if len(frame):
                print()
                print_table(frame.drop(columns=[c for c in ("without", "with", "structures", "p") if c in frame]))
        print()
        for version, total in found.knock_out.items():
            print(f"{version}: {total['bits']:.3f} bits [{total['ci'][0]:.3f}, {total['ci'][1]:.3f}]")

    result = {name: getattr(found, name).to_dict("records") for name in ("cells", "synonyms", "layers")}
    emit(
        {"places": found.places, "knock_out": found.knock_out, "n": len(thought), "seed": asked.seed, **result},
        as_json,
        human,
    )


@app.command("discover")
@with_options
def discover_command(
    model: Model,
    asked: TraceOptions = TraceOptions(),
    synonyms: Synonyms = None,
    address: Annotated[str, typer.Option(help="where the state before each word is read")] = "ln_final.hook_out",
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Without being told what about: flag words whose choice depends on hidden state."""
    from probes.subtext.discover import discover

    with Bars() as bars:
        reasoner, thought = asked.thought(bars, loading, model, temperature=1.0)
        with bars.stage("testing every word"):
            found = discover(
                reasoner, thought, _known(thought, synonyms), address=address, with_power=True, seed=asked.seed
            )

    def human() -> None:
        print_table(found.words)
        for row in found.words.itertuples():
            if not row.flagged and (row.power is None or row.power < 0.9):
                print(
                    f"word {row.place}: no verdict; this sample would have seen 0.1 bit with probability {row.power}."
                )
        marked = int((found.traces["q"] < 0.01).sum())
        print(
            f"\nsingle traces flagged at q < 0.01: {marked} of {len(thought)}; a trace can show what its words can say."
        )

    result = {"words": found.words.to_dict("records"), "traces": found.traces.to_dict("records"), "notes": found.notes}
    emit(result, as_json, human)


@app.command("paraphrase")
@with_options
def paraphrase_command(
    model: Model,
    asked: Sampled = Sampled(),
    target: Target = None,
    synonyms: Synonyms = None,
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Say the same in other words: what is left of the channel, and what of the answers."""
    from probes.subtext.measure import paraphrase

    with Bars() as bars:
        reasoner, thought = asked.thought(bars, loading, model, temperature=asked.temperature)
        with bars.stage("paraphrasing"):
            table = paraphrase(thought, _known(thought, synonyms), target, reasoner=reasoner, seed=asked.seed)
    emit({"table": table.to_dict("records"), "seed": asked.seed}, as_json, lambda: print_table(table))


@app.command("commitment")
@with_options
def commitment_command(
    model: Model,
    asked: TraceOptions = TraceOptions(n=400),
    loading: Loading = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """When the answer is decided: forced early answers and a probe, step by step, and whether later text matters."""
    from probes.subtext.commitment import commitment

    with Bars() as bars:
        reasoner, thought = asked.thought(bars, loading, model, temperature=0.0)
        with bars.stage("answering early"):
            found = commitment(reasoner, thought, seed=asked.seed)

    def human() -> None:
        print_table(found.steps)
        print()
        print_table(found.decided)
        print(f"\n{found.says}")

    result = {"steps": found.steps.to_dict("records"), "decided": found.decided.to_dict("records"), "says": found.says}
    emit(result | {"n": len(thought), "seed": asked.seed}, as_json, human)


def _wording(traces: TraceSet, synonyms: Path | None, *, needed: bool) -> Wording | None:
    """The file's synonyms, else the task's; None where there are none and none are needed."""
    from interp.problems import task as make_task
    from interp.text.wording import Wording

    if synonyms is not None:
        return Wording.read(synonyms)
    try:
        return Wording.of_task(make_task(traces[0].problem.task))
    except UsageError:
        if needed:
            raise
        return None


def _known(traces: TraceSet, synonyms: Path | None) -> Wording:
    found = _wording(traces, synonyms, needed=True)
    assert found is not None
    return found
