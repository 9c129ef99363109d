"""What everything else runs on: engines, files, the console, configuration, plugins."""
