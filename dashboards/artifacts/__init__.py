"""What there is to show: finding it, describing it, and reading files of traces lazily."""
