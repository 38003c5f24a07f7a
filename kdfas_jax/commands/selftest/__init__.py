"""A laboratory's test on one's own: a plan of what to capture, and the scores of the folder that results."""
