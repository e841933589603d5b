"""Tasks: what an evaluation asks of a model, one module a dimension or a kind of scorer."""
