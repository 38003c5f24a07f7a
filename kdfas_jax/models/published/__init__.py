"""Import of published weights, one converter per family of models; imports `models`."""
