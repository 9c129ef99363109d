"""The pages of the app: one row here and one file in dashboards/views make a page.

Other packages add pages by entry points of the group `cotlens.pages`, each of which names a `Page`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from interp.errors import UsageError
from interp.runtime.plugins import load_plugin, plugins


@dataclass(frozen=True)
class Page:
    """One page but home.

    Attributes:
        name: The first part of its path.
        title: What links to it say.
        kinds: The kinds of artifacts that it shows (`Artifact.kind`).
        module: The module whose function `show` draws it; by default the one of its name in dashboards/views.
    """

    name: str
    title: str
    kinds: tuple[str, ...]
    module: str = ""

    @property
    def module_name(self) -> str:
        """The full name of the module that draws it."""
        return self.module or f"dashboards.views.{self.name}"


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


@functools.cache
def all_pages() -> tuple[tuple[Page, ...], tuple[str, ...]]:
    """Return the pages of this project and of installed packages, and what is wrong with those that cannot be shown."""
    pages, notes = list(PAGES), []
    for name in plugins("pages"):
        try:
            page = load_plugin("pages", name)
        except UsageError as error:
            notes.append(str(error))
            continue
        if not isinstance(page, Page) or page.name != name or not page.module:
            notes.append(
                f"the page {name!r} of an installed package is not shown: expected a dashboards.pages.Page with "
                f"name={name!r} and a module, got {page!r}."
            )
        elif name in {"home", *(other.name for other in pages)}:
            notes.append(f"the page {name!r} of an installed package is not shown: there is a page of that name.")
        else:
            pages.append(page)
    return tuple(pages), tuple(notes)


def titles() -> dict[str, str]:
    """Return the title of each page by its name."""
    return {page.name: page.title for page in all_pages()[0]}


def pages_of(kind: str) -> tuple[str, ...]:
    """Return the names of the pages that show a kind of artifact."""
    return tuple(page.name for page in all_pages()[0] if kind in page.kinds)
