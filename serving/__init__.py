"""How to run a language model, plain or steered."""
