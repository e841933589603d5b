"""OpenAI routes: completions and chat completions with a `steering` block."""
