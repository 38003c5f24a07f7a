"""Sections of a run's page, one file each: what the attempts support, groups, and the stability of decisions."""
