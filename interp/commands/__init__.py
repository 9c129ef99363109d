"""The commands of `interp`. Each function imports heavy packages itself, so that `--help` is fast."""
