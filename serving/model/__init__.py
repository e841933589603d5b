"""Language models and their residual streams; free of HTTP, and shared by the experiments and the service."""
