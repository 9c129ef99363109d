"""A control of another package: the length of the question."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from probes.sweeps.controls import ControlInputs


def question_length(store: ActivationSource, rows: pd.DataFrame) -> ControlInputs:
    """Return the number of words of the question."""
    lengths = [len(store.traces[trace].problem.question.split()) for trace in rows["trace"]]
    return ControlInputs({"length": np.array(lengths, np.float32)[:, None]})
