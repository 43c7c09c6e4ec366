"""Export of any layer, and runtimes that run what was exported."""
