"""Metrics of scored tables: detection, verification, authentication, calibration. They import nothing of kdfas_jax."""
