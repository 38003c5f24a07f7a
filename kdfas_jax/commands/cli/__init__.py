"""The command line: flags, configs and their overrides, and one verb for each mode. It may import every folder."""
