"""vLLM engine: the same steering on stock vLLM."""
