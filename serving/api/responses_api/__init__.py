"""OpenAI's Responses API: its text subset, with a `steering` block."""
