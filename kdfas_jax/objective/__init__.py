"""Losses, the terms of the objective and their weighted sum, training passes, and the attack on the input.

The modules import `models` and folders below it, and do no I/O.
"""
