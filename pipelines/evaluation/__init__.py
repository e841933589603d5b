"""What steering does to a model: to its fluency, and to what it finds likely."""
