"""Integrated gradients over attention matrices: the mathematics, model families and statistics."""
