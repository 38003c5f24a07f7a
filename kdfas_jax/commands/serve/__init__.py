"""A local web page and a JSON endpoint that score pictures, videos and the camera with a trained model."""
