"""The training step and what surrounds it: optimiser, teachers, checkpoints, logs, validation of the config.

The modules import `targets`, `report`, `objective` and the folders below; only `checkpoint` imports Orbax.
"""
