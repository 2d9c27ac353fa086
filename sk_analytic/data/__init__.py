"""Samples: a batch, and where batches come from."""
