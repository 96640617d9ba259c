"""From a trained student to what a hospital runs. Nothing here imports torch but :mod:`pipeline.deployment.export`."""
