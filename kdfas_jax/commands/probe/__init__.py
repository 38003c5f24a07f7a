"""Linear and k-NN probe of a frozen model."""
