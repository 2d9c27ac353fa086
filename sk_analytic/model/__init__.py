"""The model: the callables of a user, bound; metadata; the default models."""
