"""What the decisions of a run withstand: measured on a drawn part of the test images at each evaluation."""
