"""HTTP: OpenAI's routes with steering, and the routes that say what is steered by what."""
