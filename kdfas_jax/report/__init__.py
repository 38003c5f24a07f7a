"""Pages, plots, tables and heat maps of evaluated runs; may import `models`, `metrics`, `parallel` and `runs`."""
