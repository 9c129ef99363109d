"""The models that pages have loaded: one place for all pages and all readers."""

from __future__ import annotations

import streamlit as st

from dashboards.live.models import LoadedModels, usual_cap


@st.cache_resource(max_entries=1, show_spinner=False)
def models() -> LoadedModels:
    """Return the loaded models."""
    return LoadedModels(usual_cap())
