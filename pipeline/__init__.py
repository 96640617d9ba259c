"""Evenbeat: group-robust distillation of cardiac cine MRI classifiers, audited scanner by scanner."""
