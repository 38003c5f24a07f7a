"""Selection of examples: protocols, roles, pairs for verification; may import `prepare` and the folders below."""
