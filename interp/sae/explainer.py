"""A language model as a second opinion on features: it explains from examples, and is scored on others.

Any endpoint that speaks the OpenAI chat protocol will do, also one on this machine. The explanation is written from
top activations. Its score is detection (Paulo et al., arXiv 2410.13928): given only the explanation, the model says
which of a mixed list of *other* contexts make the feature fire. Needs the extra `explain` (httpx).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.errors import CotlensError, UsageError
from interp.models.address import Address
from interp.sae.dictionaries import SAEDictionary

if TYPE_CHECKING:
    from sae_lens import SAE

_EXPLAIN = (
    "A feature of a neural network fires at the token in [brackets], with the strength given before each line. "
    "A token such as <latent> has no text of its own; the values that the problem passes through are given after "
    "the bar. Say in at most fifteen words what makes the feature fire. Answer with that alone."
)
_DETECT = (
    "A feature of a neural network is described as: {explanation}\n"
    "In which of these numbered lines does it fire at the token in [brackets]? Answer with the numbers, separated "
    "by commas, or with 'none'."
)


@dataclass(frozen=True)
class Explainer:
    """An endpoint of the OpenAI chat protocol: `base_url` up to and with /v1, and the model's name there."""

    base_url: str
    model: str
    api_key: str | None = None
    timeout: float = 60.0

    def ask(self, system: str, user: str) -> str:
        """One answer. Raises `CotlensError` when the endpoint cannot be reached or says something else."""
        try:
            import httpx
        except ImportError:
            raise UsageError("an explainer needs httpx; install it: pip install 'cotlens[explain]'.") from None
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        body = {
            "model": self.model,
            "temperature": 0,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
        }
        where = f"{self.base_url.rstrip('/')}/chat/completions"
        try:
            answer = httpx.post(where, json=body, headers=headers, timeout=self.timeout)
            answer.raise_for_status()
            said = answer.json()["choices"][0]["message"]["content"]
        except httpx.HTTPStatusError as error:
            raise CotlensError(
                f"the explainer at {where} refused ({error.response.status_code}). Check the model's name and the key."
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CotlensError(
                f"the explainer at {where} cannot be reached ({type(error).__name__}). Start it, or give another --explainer."
            ) from None
        except (ValueError, KeyError, IndexError, TypeError):
            raise CotlensError(
                f"the explainer at {where} does not answer in the form of the OpenAI chat protocol."
            ) from None
        return str(said).strip()

    def explain(self, examples: list[dict[str, Any]]) -> str:
        """What a feature fires on, from rows as `name_features` gives them in `top`."""
        return self.ask(_EXPLAIN, "\n".join(f"{each['activation']:.2f}: {line(each)}" for each in examples))

    def detect(self, explanation: str, lines: list[str]) -> np.ndarray:
        """For each of `lines` whether the explanation makes the model say that the feature fires there."""
        numbered = "\n".join(f"{k}. {text}" for k, text in enumerate(lines, 1))
        said = self.ask(_DETECT.format(explanation=explanation), numbered)
        chosen = {int(number) for number in re.findall(r"\d+", said)}
        return np.array([k in chosen for k in range(1, len(lines) + 1)])


def line(example: dict[str, Any]) -> str:
    """One example as the model sees it."""
    return f"{example['context']} | {example['values']}"


def explain_features(
    named: pd.DataFrame,
    sae: SAE,
    store: ActivationSource,
    address: Address,
    rows: pd.DataFrame,
    explainer: Explainer,
    *,
    count: int = 10,
    examples: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """The first `count` features of `named` that fire, with columns explanation and detection added (else None, NaN).

    `detection` is the balanced accuracy over `examples` contexts where the feature fires, none of them shown before,
    and as many where it does not; 0.5 is chance.
    """
    from interp.sae.naming import Contexts

    features = SAEDictionary(sae).encode(store.acts(address, rows))
    contexts = Contexts(store, rows)
    at = {(int(t), int(p)): k for k, (t, p) in enumerate(zip(rows["trace"], rows["position"], strict=True))}
    rng = np.random.default_rng(seed)
    explained = named.assign(explanation=None, detection=np.nan).astype({"explanation": object})
    for place in explained.index[explained["rate"] > 0][:count]:
        found = explained.loc[place]
        column = features[:, int(found["feature"])]
        explanation = explainer.explain(found["top"])
        explained.at[place, "explanation"] = explanation
        shown = [at[(each["trace"], each["position"])] for each in found["top"]]
        fires = np.setdiff1d(np.flatnonzero(column > 0), shown)
        silent = np.flatnonzero(column <= 0)
        n = min(examples, len(fires), len(silent))
        if not n:
            continue
        mixed = np.concatenate([rng.choice(fires, n, replace=False), rng.choice(silent, n, replace=False)])
        order = rng.permutation(2 * n)
        said = explainer.detect(explanation, [line(each) for each in contexts.of(mixed[order], column)])
        truth = (column[mixed] > 0)[order]
        explained.at[place, "detection"] = (said[truth].mean() + (~said[~truth]).mean()) / 2
    return explained
