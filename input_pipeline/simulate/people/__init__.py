"""Heads, skin, hair and expressions of the renderer."""
