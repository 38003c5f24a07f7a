"""The commands of the project, one module or folder each (train, evaluate, predict, export, ...).

Commands join kdfas_jax with the input pipeline, and may import everything but `performance`.
"""
