"""The pages of the app: one row here and one file in dashboards/views make a page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """One page but home.

    Attributes:
        name: Name of its module in dashboards/views, and the first part of its path.
        title: What links to it say.
        kinds: The kinds of artifacts that it shows (`Artifact.kind`).
    """

    name: str
    title: str
    kinds: tuple[str, ...]


#: In the order of the links. Each module has a function `show` that draws the page.
PAGES = (
    Page("overview", "Overview", ("run",)),
    Page("traces", "Traces", ("run", "traces", "store")),
    Page("explorer", "Trace explorer", ("run", "traces", "store")),
    Page("trajectories", "Layer trajectories", ("run", "store")),
    Page("compare", "Compare", ("run", "traces", "store")),
    Page("latents", "Thoughts", ("run",)),
    Page("probes", "Probes", ("run", "sweep")),
    Page("features", "SAE features", ("sae",)),
    Page("causal", "Causal", ("run", "graph", "causal test")),
    Page("faithfulness", "Faithfulness", ("run", "text test")),
    Page("jobs", "Jobs", ()),
    Page("builder", "Report builder", ()),
)
TITLES = {page.name: page.title for page in PAGES}


def pages_of(kind: str) -> tuple[str, ...]:
    """Return the names of the pages that show a kind of artifact."""
    return tuple(page.name for page in PAGES if kind in page.kinds)
