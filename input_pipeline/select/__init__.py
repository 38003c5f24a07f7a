"""Selection of examples from records: protocols, roles, pairs for verification; may import `prepare` and the folders below."""
