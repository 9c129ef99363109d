"""`cotlens bench`: measures beside their peers, in one run."""

from __future__ import annotations

from typing import Annotated

import typer

from interp.console import AsJson, Bars, emit, new_app, print_table

app = new_app("Take measures, side by side with peers in one process, and keep them under benchmarks/results/.")


@app.command("probes")
def probes(
    repetitions: Annotated[int, typer.Option(help="interleaved rounds; medians are reported")] = 5,
    as_json: AsJson = False,
) -> None:
    """The batched solver beside scikit-learn, and false discoveries over noise."""
    from benchmarks.probes import bench
    from interp.errors import checked_count

    checked_count("repetitions", repetitions)
    with Bars() as bars:
        result = bench(repetitions, bars)

    def human() -> None:
        import pandas as pd

        print_table(pd.DataFrame(result["measures"])[["id", "value", "ci", "op", "target", "met", "peer", "note"]])

    emit(result, as_json, human)
