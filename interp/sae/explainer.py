"""Explanations of features by a language model, which is scored on examples that it has not seen.

Any endpoint of the OpenAI chat protocol works, also a local one. The model explains a feature from its top activations.
The score is detection: given only the explanation, the model predicts which of *other* contexts make the feature fire.
Needs the extra `explain` (httpx).

References:
    Paulo et al., "Automatically Interpreting Millions of Features in Large Language Models", arXiv 2410.13928.
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
    """An endpoint of the OpenAI chat protocol.

    Attributes:
        base_url: Address of the endpoint, up to and including /v1.
        model: Name of the model there.
        api_key: Key of the endpoint, where it needs one.
        timeout: Seconds to wait for an answer.
    """

    base_url: str
    model: str
    api_key: str | None = None
    timeout: float = 60.0

    def ask(self, system: str, user: str) -> str:
        """Return the model's answer to a system and a user message.

        Raises:
            UsageError: When httpx is not installed.
            CotlensError: When the endpoint cannot be reached, or does not follow the protocol.
        """
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
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        try:
            response = httpx.post(url, json=body, headers=headers, timeout=self.timeout)
            response.raise_for_status()
            answer = response.json()["choices"][0]["message"]["content"]
        except httpx.HTTPStatusError as error:
            raise CotlensError(
                f"the explainer at {url} refused ({error.response.status_code}). Check the model's name and the key."
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CotlensError(
                f"the explainer at {url} cannot be reached ({type(error).__name__}). Start it, or give another --explainer."
            ) from None
        except (ValueError, KeyError, IndexError, TypeError):
            raise CotlensError(
                f"the explainer at {url} does not answer in the form of the OpenAI chat protocol."
            ) from None
        return str(answer).strip()

    def explain(self, examples: list[dict[str, Any]]) -> str:
        """Return an explanation of a feature from examples, such as the column `top` of `name_features`."""
        return self.ask(_EXPLAIN, "\n".join(f"{e['activation']:.2f}: {example_line(e)}" for e in examples))

    def detect(self, explanation: str, lines: list[str]) -> np.ndarray:
        """Return for each line whether the model, given the explanation, predicts that the feature fires there."""
        numbered = "\n".join(f"{k}. {text}" for k, text in enumerate(lines, 1))
        answer = self.ask(_DETECT.format(explanation=explanation), numbered)
        chosen = {int(number) for number in re.findall(r"\d+", answer)}
        return np.array([k in chosen for k in range(1, len(lines) + 1)])


def example_line(example: dict[str, Any]) -> str:
    """Return an example in the form that the model reads."""
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
    """Let a language model explain the first features that fire, and score its explanations.

    Args:
        named: A table of `name_features`.
        sae: The SAE it was made from.
        store: Where the activations come from.
        address: Where they were read.
        rows: The rows they were read at.
        explainer: The endpoint.
        count: Number of features to explain.
        examples: Contexts where a feature fires, and as many where it does not, in one detection test.
        seed: Seed of the choice of contexts.

    Returns:
        The table with the columns explanation (None without one) and detection: the balanced accuracy over contexts that
        were not shown before, 0.5 by chance; NaN where it was not tested.
    """
    from interp.sae.naming import Contexts

    features = SAEDictionary(sae).encode(store.acts(address, rows))
    contexts = Contexts(store, rows)
    row_of = {(int(t), int(p)): k for k, (t, p) in enumerate(zip(rows["trace"], rows["position"], strict=True))}
    rng = np.random.default_rng(seed)
    explained = named.assign(explanation=None, detection=np.nan).astype({"explanation": object})
    for label in explained.index[explained["rate"] > 0][:count]:
        feature = explained.loc[label]
        column = features[:, int(feature["feature"])]
        explanation = explainer.explain(feature["top"])
        explained.at[label, "explanation"] = explanation
        shown = [row_of[(example["trace"], example["position"])] for example in feature["top"]]
        fires = np.setdiff1d(np.flatnonzero(column > 0), shown)
        silent = np.flatnonzero(column <= 0)
        n = min(examples, len(fires), len(silent))
        if not n:
            continue
        mixed = np.concatenate([rng.choice(fires, n, replace=False), rng.choice(silent, n, replace=False)])
        order = rng.permutation(2 * n)
        lines = [example_line(example) for example in contexts.examples(mixed[order], column)]
        predictions = explainer.detect(explanation, lines)
        truth = (column[mixed] > 0)[order]
        explained.at[label, "detection"] = (predictions[truth].mean() + (~predictions[~truth]).mean()) / 2
    return explained
