"""Evenbeat: group-robust distillation of cardiac cine MRI classifiers, audited scanner by scanner."""

__version__ = "0.6.0"  # as in pyproject.toml; to ask the installation would be slow where one study is read
