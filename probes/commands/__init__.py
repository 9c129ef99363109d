"""The commands of the package `probes`."""
