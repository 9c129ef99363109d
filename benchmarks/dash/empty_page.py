"""A page with nothing but a title, served as the dashboard's pages are: what their first paint is compared with."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from streamlit import App

from dashboards.launch import options, url_of

PAGE = 'import streamlit as st\n\nst.set_page_config(layout="wide")\nst.title("Nothing")\n'


def main(port: int) -> None:
    """Serve the page on a port of 127.0.0.1 until the process is ended."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "page.py"
        script.write_text(PAGE, encoding="utf-8")
        print(url_of(port), flush=True)
        App(script).run(config=options(port))


if __name__ == "__main__":
    main(int(sys.argv[sys.argv.index("--port") + 1]))
