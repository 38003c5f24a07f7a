"""Benchmarks, and the compilation of training steps for other devices; may import everything."""
