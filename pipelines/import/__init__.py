"""Import: a pack registered for the model that it was made for."""
