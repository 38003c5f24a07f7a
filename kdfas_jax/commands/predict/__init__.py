"""Scores for a user's images, videos and webcams."""
