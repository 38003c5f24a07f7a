"""The folder of a run: its files and config, its lock, and overrides. The modules import nothing else of kdfas_jax."""
