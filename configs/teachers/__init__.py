"""Configs of teachers, domain classifiers and editors; they can also be trained by themselves."""
