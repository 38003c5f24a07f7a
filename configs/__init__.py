"""Configs of runs, one file each: `get_config(...)` returns a complete ml_collections ConfigDict."""
