"""Parts of the pages that show results of commands: causal tests, graphs, and tests of visible thoughts."""
