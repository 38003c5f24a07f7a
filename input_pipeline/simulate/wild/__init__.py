"""People in real light: whole scenes in linear light, lit by environment maps of real rooms and landscapes."""
