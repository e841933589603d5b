"""Results into MLflow: runs, curves, tables and figures. It logs what it is given and computes nothing."""
