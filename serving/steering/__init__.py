"""Steering: vectors that are live, plans made of requests, and their limits; free of HTTP and of torch."""
