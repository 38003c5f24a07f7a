"""Face anti-spoofing in JAX: models, losses, training, evaluation and reports; the folders import downwards only.

From the top: performance, commands, training, targets, report and objective, models, and metrics, parallel and runs.
"""
