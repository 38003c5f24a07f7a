"""Meshes and sharding, several processes, and preemption. The modules import nothing else of kdfas_jax."""
