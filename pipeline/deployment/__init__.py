"""From a trained student to what a hospital runs.

Only ``export.py``, ``onnx_file.py`` and ``quantise.py``, which make a package, import torch or pandas.
"""
