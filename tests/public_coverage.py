"""Print how much of each public name of cotlens the last test run with `--cov` executed.

Run `make coverage`. Commands that tests start in processes of their own, such as the demo with `study`, do not count. A
name of `cotlens.__all__` counts by the statements of its function, or of its class and methods. The files that define
these names are listed in `[tool.coverage.run]` of pyproject.toml; one that is missing there ends this with exit code 1.
"""

from __future__ import annotations

import inspect
import sys

from coverage import Coverage

import cotlens


def main() -> None:
    """Print one line for each public name, least covered first."""
    data = Coverage()
    data.load()
    measured = data.get_data().measured_files()
    rows = []
    for name in sorted(cotlens.__all__):
        thing = getattr(cotlens, name)
        try:
            lines, first = inspect.getsourcelines(thing)
            path = inspect.getsourcefile(thing)
        except TypeError:  # a constant or an alias of a type
            continue
        if path not in measured:
            sys.exit(f"{name} is defined in {path}; list that file under [tool.coverage.run] in pyproject.toml")
        _, statements, _, missing, _ = data.analysis2(path)
        last = first + len(lines)
        # The lines of `def` and of defaults run on import, so only bodies count.
        inside = [line for line in statements if first < line < last]
        hit = [line for line in inside if line not in set(missing)]
        if inside:
            rows.append((len(hit) / len(inside), name, len(hit), len(inside)))
    for share, name, hit, total in sorted(rows):
        print(f"{share:6.1%}  {name} ({hit} of {total} statements)")
    print(f"public surface: {sum(r[2] for r in rows) / sum(r[3] for r in rows):.1%} of {len(rows)} names' statements")


if __name__ == "__main__":
    main()
