"""Parts of pages that Streamlit lacks: each is a folder with its JavaScript and its styles."""
