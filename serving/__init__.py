"""Language models, run plain or steered, and the service that answers with them."""
