"""Results by site and scanner: metrics, predictions tables, MLflow."""
