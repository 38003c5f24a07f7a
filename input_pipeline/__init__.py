"""From raw data sets to batches; imports nothing of kdfas_jax, and the folders import downwards only.

From the top: stream, select, prepare, datasets, sources and simulate, and schema and tables.
"""
