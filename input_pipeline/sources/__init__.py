"""Decoding of images and videos, annotations of video sets, and a user's inputs; imports `schema`."""
