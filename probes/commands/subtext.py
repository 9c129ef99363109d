"""`cotlens subtext`: what the words of a chain of thought, and the latents behind it, say beyond what is written."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Annotated

import typer

from interp.commands.models import LOAD_DEFAULTS, LoadOptions, Model
from interp.commands.options import with_options
from interp.commands.problem_options import SplitUse
from interp.errors import QualityError
from interp.reasoners.needs import needs_text, needs_thoughts
from interp.runtime.console import AsJson, Bars, emit, new_app, print_table
from interp.runtime.results import ResultFile, write_result
from probes.commands.foresight import compute_command, foresight_command, uncertainty_command
from probes.commands.options import SampledTraceOptions, TraceOptions, WordingOptions, WordOptions

if TYPE_CHECKING:
    from interp.traces import TraceSet
    from probes.subtext.joint import JointGain

app = new_app("Measure and locate the information in a chain of thought that its text does not carry.")


@app.command("measure")
@with_options
def measure_command(
    model: Model,
    options: SampledTraceOptions = SampledTraceOptions(),
    words: WordOptions = WordOptions(),
    latents: Annotated[
        list[str] | None,
        typer.Option(help="Place at which latents are measured too, such as 'question end'. Repeatable."),
    ] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(
            help="Hook name of an activation. Repeatable.", show_default="every block's output and the final state"
        ),
    ] = None,
    power: Annotated[bool, typer.Option(help="Compute the power to detect 0.1 bit.")] = True,
    fail_over: Annotated[
        float | None, typer.Option(help="Exit with code 4 if all targets together exceed this many bits.")
    ] = None,
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Measure bits about each target in the choice of words beyond their meaning, and in latents beyond the text.

    Example: cotlens subtext measure subtext-1 --n 1000 --target hint:1 --target hint:2
    """
    from probes.subtext.measure import measure

    with Bars() as bars:
        needed, kind = (None, None) if latents else (words, needs_text)
        reasoner, traces = options.load(
            bars, load_options, model, temperature=options.temperature, words=needed, needs=kind
        )
        wording = words.wording_or_none(traces[0].problem.task) if latents else words.wording(traces[0].problem.task)
        with bars.stage("measuring, with controls and power" if power else "measuring, with controls"):
            result = measure(
                traces,
                words.target,
                wording=wording,
                reasoner=reasoner if latents else None,
                places=latents or (),
                addresses=address,
                with_power=power,
                seed=options.seed,
            )

    def human() -> None:
        print_table(result.table.drop(columns=["structures"]))
        for source, gain in result.total.items():
            print(f"\n{source}: {_bits(gain)} about all targets together, n = {gain.bits.n}")
            if gain.left_out:
                print(f"left out, for too few traces have them all: {', '.join(gain.left_out)}")
            print(gain.power or "without --power, a channel that is not found may not be called absent")

    total = {source: gain.to_dict() for source, gain in result.total.items()}
    record = {"table": result.table.to_dict("records"), "total": total, "notes": result.notes, "n": len(traces)}
    write_result(out, "subtext measure", reasoner.describe(), record)
    emit(record, as_json, human)
    worst = max(
        (gain.bits.value for gain in result.total.values()), key=lambda bits: float("inf") if isnan(bits) else bits
    )
    if fail_over is not None and not worst <= fail_over:
        raise QualityError(f"expected at most {fail_over} bits, got {worst:.3f}.")


@app.command("locate")
@with_options
def locate_command(
    model: Model,
    options: SampledTraceOptions = SampledTraceOptions(),
    words: WordOptions = WordOptions(),
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Find which words carry subtext, which synonyms say what, and which layers hold it; knock them out as a proof.

    Example: cotlens subtext locate subtext-1
    """
    from probes.subtext.locate import locate

    with Bars() as bars:
        # The words that are knocked out are chosen on the same traces.
        reasoner, traces = options.load(
            bars,
            load_options,
            model,
            temperature=options.temperature,
            split_use=SplitUse.TEST,
            words=words,
            needs=needs_text,
        )
        with bars.stage("locating"):
            result = locate(
                traces, words.wording(traces[0].problem.task), words.target, reasoner=reasoner, seed=options.seed
            )

    def human() -> None:
        print(f"carrying words: {', '.join(map(str, result.places)) or 'none'} (q < 0.01)")
        shown = result.cells[result.cells["carrying"]] if result.places else result.cells
        print_table(shown[["place", "target", "bits", "ci_low", "ci_high", "q", "n"]])
        for frame in (result.synonyms, result.layers):
            if len(frame):
                print()
                print_table(frame.drop(columns=[c for c in ("without", "with", "structures", "p") if c in frame]))
        print()
        for version, gain in result.knock_out.items():
            print(f"{version}: {_bits(gain)}")

    tables = {name: getattr(result, name).to_dict("records") for name in ("cells", "synonyms", "layers")}
    knock_out = {version: gain.to_dict() for version, gain in result.knock_out.items()}
    about = {"n": len(traces), "seed": options.seed}
    record = {"places": result.places, "knock_out": knock_out, **about, **tables}
    write_result(out, "subtext locate", reasoner.describe(), record)
    emit(record, as_json, human)


@app.command("discover")
@with_options
def discover_command(
    model: Model,
    options: TraceOptions = TraceOptions(),
    words: WordingOptions = WordingOptions(),
    address: Annotated[
        str, typer.Option(help="Hook name of the activation that is read before each word.")
    ] = "ln_final.hook_out",
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Flag words whose choice depends on hidden state, without being told what they say.

    Example: cotlens subtext discover subtext-1
    """
    from probes.subtext.discover import discover

    with Bars() as bars:
        reasoner, traces = options.load(bars, load_options, model, temperature=1.0, words=words, needs=needs_text)
        with bars.stage("testing every word"):
            result = discover(
                reasoner,
                traces,
                words.wording(traces[0].problem.task),
                address=address,
                with_power=True,
                seed=options.seed,
            )

    def human() -> None:
        print_table(result.words)
        total = result.total
        print(f"\nall words together: {total.value:.3f} bits [{total.low:.3f}, {total.high:.3f}], n = {total.n}")
        print(f"verdict: {result.verdict}")
        if result.verdict == "undecided":
            print("this sample is too small to say none" + (f"; use --n {n}" if (n := result.n_needed) else ""))
        flagged = int((result.traces["q"] < 0.01).sum())
        print(f"single traces flagged at q < 0.01: {flagged} of {len(traces)}")

    tables = {"words": result.words.to_dict("records"), "traces": result.traces.to_dict("records")}
    total = {**result.total.measure(), "p": result.total_p}
    record = {**tables, "total": total, "verdict": result.verdict, "n_needed": result.n_needed, "notes": result.notes}
    write_result(out, "subtext discover", reasoner.describe(), record, _problems(traces))
    emit(record, as_json, human)


@app.command("paraphrase")
@with_options
def paraphrase_command(
    model: Model,
    options: SampledTraceOptions = SampledTraceOptions(),
    words: WordOptions = WordOptions(),
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Replace words by synonyms: how many bits, and how many answers, are left, forced and as the model goes on itself.

    Example: cotlens subtext paraphrase subtext-1
    """
    from probes.subtext.paraphrase import paraphrase

    with Bars() as bars:
        reasoner, traces = options.load(
            bars, load_options, model, temperature=options.temperature, words=words, needs=needs_text
        )
        with bars.stage("paraphrasing"):
            table = paraphrase(
                traces, words.wording(traces[0].problem.task), words.target, reasoner=reasoner, seed=options.seed
            )

    def human() -> None:
        print_table(table[["version", "bits", "ci_low", "ci_high", "n"]])
        for way, title in (("", "the whole rewritten text forced"), ("free_", "going on freely after each word")):
            columns = [
                column for name in ("accuracy", "same_answer") for column in (name, f"{name}_low", f"{name}_high")
            ]
            shown = table[["version", *(f"{way}{column}" for column in columns)]]
            print(f"\n{title}:")
            print_table(shown.rename(columns={f"{way}{column}": column for column in columns}))
        print()
        for row in table[table["verdict"] != "control"].itertuples():
            print(
                f"{row.version}: the choice of words is {row.verdict}; {row.free_lost:.3f} "
                f"[{row.free_lost_low:.3f}, {row.free_lost_high:.3f}] of the answers are lost without it"
            )

    verdicts = dict(zip(table["version"], table["verdict"], strict=True))
    record = {"table": table.to_dict("records"), "verdicts": verdicts, "n": len(traces), "seed": options.seed}
    write_result(out, "subtext paraphrase", reasoner.describe(), record)
    emit(record, as_json, human)


@app.command("commitment")
@with_options
def commitment_command(
    model: Model,
    options: TraceOptions = TraceOptions(),
    out: ResultFile = None,
    load_options: LoadOptions = LOAD_DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Find the step at which the answer is decided, by forced early answers and a probe, and test whether later text matters.

    Example: cotlens subtext commitment chain-text
    """
    from probes.subtext.commitment import commitment

    with Bars() as bars:
        reasoner, traces = options.load(bars, load_options, model, temperature=0.0, n=400, needs=needs_thoughts)
        with bars.stage("answering early"):
            result = commitment(reasoner, traces, seed=options.seed)

    def human() -> None:
        print_table(result.steps)
        print()
        print_table(result.decided)
        print(f"\n{result.verdict}")

    tables = {"steps": result.steps.to_dict("records"), "decided": result.decided.to_dict("records")}
    left_out = {"left_out": result.left_out, "left_out_share": result.left_out_share}
    record = {**tables, "says": result.verdict, **left_out, "n": len(traces), "seed": options.seed}
    of_traces = _problems(traces) | {"decided_at": result.by_trace.tolist()}
    write_result(out, "subtext commitment", reasoner.describe(), record, of_traces)
    emit(record, as_json, human)


def _problems(traces: TraceSet) -> dict[str, list[str]]:
    """Return what a file keeps of the traces, so that a page finds the row of one of them."""
    return {"problems": [trace.problem.id for trace in traces]}


def _bits(gain: JointGain) -> str:
    at_least = "at least " if gain.lower_bound else ""
    tight = (
        f", a lower bound; about {gain.n_tight} traces would give all but 0.05 bit of the rest"
        if gain.lower_bound
        else ""
    )
    return f"{at_least}{gain.bits.value:.3f} bits [{gain.bits.low:.3f}, {gain.bits.high:.3f}]{tight}"


app.command("foresight")(foresight_command)
app.command("compute")(compute_command)
app.command("uncertainty")(uncertainty_command)
