"""A run adapted to a camera: from live pictures, and attacks that are simulated from them."""
