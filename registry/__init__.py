"""What is stored, what it means, and where it came from."""
