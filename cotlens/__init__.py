"""cotlens: read the latents behind a chain of thought, and test whether the model uses what was read.

Everything that a study needs is imported from here. Names are imported on first use, so that `import cotlens` is
fast and does not load PyTorch.

    import cotlens

    reasoner = cotlens.load("chain-coconut")
    problems = reasoner.task.generate(500, seed=7)
    traces = reasoner.think(problems)
    store = cotlens.capture(reasoner, traces, out="runs/store")
    readouts = cotlens.decode(store, ["logit_lens", "probe"], reasoner=reasoner)
    edits = cotlens.interchange(reasoner, traces, readouts)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cotlens.shadowing import check_packages

__version__ = "0.2.0"

check_packages()

from interp.runtime.lazy import lazy_exports  # noqa: E402

if TYPE_CHECKING:
    from cotlens.functions import faithfulness, faithfulness_scores, open_store, questions, subtext, swap, train_sae
    from dashboards.runs import Run
    from dashboards.study import Study, study
    from interp.activations.capturing import capture, resume
    from interp.activations.recording import Recording, record
    from interp.activations.store import Store
    from interp.causal.ablation import ablate
    from interp.causal.evaluation import evaluate
    from interp.causal.interchanges.run import interchange
    from interp.causal.steering import steer
    from interp.causal.swap import swap_summary
    from interp.decoders.evaluation.decoding import decode
    from interp.decoders.evaluation.read_outs import ReadOuts
    from interp.errors import CotlensError
    from interp.loading.load import load, random_init
    from interp.models.address import Address
    from interp.problems import Problem, Step, task
    from interp.reasoners import Intervention, Monitor, Reasoner
    from interp.statistics.estimates import Estimate
    from interp.text.wording import Wording
    from interp.traces import Channel, Trace, TraceSet
    from probes.estimators.saved import load_probe, save_probe
    from probes.subtext.commitment import commitment
    from probes.subtext.discover import discover
    from probes.subtext.locate import locate
    from probes.subtext.paraphrase import paraphrase
    from probes.sweeps.results import Sweep
    from probes.sweeps.run import sweep

__all__ = [
    "Address",
    "Channel",
    "CotlensError",
    "Estimate",
    "Intervention",
    "Monitor",
    "Problem",
    "ReadOuts",
    "Reasoner",
    "Recording",
    "Run",
    "Step",
    "Store",
    "Study",
    "Sweep",
    "Trace",
    "TraceSet",
    "Wording",
    "ablate",
    "capture",
    "commitment",
    "decode",
    "discover",
    "evaluate",
    "faithfulness",
    "faithfulness_scores",
    "interchange",
    "load",
    "load_probe",
    "locate",
    "open_store",
    "paraphrase",
    "questions",
    "random_init",
    "record",
    "resume",
    "save_probe",
    "steer",
    "study",
    "subtext",
    "swap",
    "swap_summary",
    "sweep",
    "task",
    "train_sae",
]
_HOMES = {
    "Address": "interp.models.address",
    "Channel": "interp.traces",
    "CotlensError": "interp.errors",
    "Estimate": "interp.statistics.estimates",
    "Intervention": "interp.reasoners",
    "Monitor": "interp.reasoners",
    "Problem": "interp.problems",
    "ReadOuts": "interp.decoders.evaluation.read_outs",
    "Reasoner": "interp.reasoners",
    "Run": "dashboards.runs",
    "Step": "interp.problems",
    "Store": "interp.activations.store",
    "Study": "dashboards.study",
    "Sweep": "probes.sweeps.results",
    "Trace": "interp.traces",
    "TraceSet": "interp.traces",
    "Wording": "interp.text.wording",
    "ablate": "interp.causal.ablation",
    "capture": "interp.activations.capturing",
    "commitment": "probes.subtext.commitment",
    "decode": "interp.decoders.evaluation.decoding",
    "discover": "probes.subtext.discover",
    "evaluate": "interp.causal.evaluation",
    "faithfulness": "cotlens.functions",
    "faithfulness_scores": "cotlens.functions",
    "interchange": "interp.causal.interchanges.run",
    "load": "interp.loading.load",
    "load_probe": "probes.estimators.saved",
    "locate": "probes.subtext.locate",
    "open_store": "cotlens.functions",
    "paraphrase": "probes.subtext.paraphrase",
    "questions": "cotlens.functions",
    "random_init": "interp.loading.load",
    "record": "interp.activations.recording",
    "Recording": "interp.activations.recording",
    "resume": "interp.activations.capturing",
    "save_probe": "probes.estimators.saved",
    "steer": "interp.causal.steering",
    "study": "dashboards.study",
    "subtext": "cotlens.functions",
    "swap": "cotlens.functions",
    "swap_summary": "interp.causal.swap",
    "sweep": "probes.sweeps.run",
    "task": "interp.problems",
    "train_sae": "cotlens.functions",
}
__getattr__ = lazy_exports(__name__, _HOMES)


def __dir__() -> list[str]:
    """Return the public names, for completion in a notebook."""
    return sorted({*globals(), *__all__})
