"""Per-scanner audits of predictions tables, with intervals that resample patients."""
