"""A run's folder: its files, config, identity and lock. Imports no other folder of kdfas_jax."""
