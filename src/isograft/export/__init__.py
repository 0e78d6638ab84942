"""A model in a form that other programs load."""
