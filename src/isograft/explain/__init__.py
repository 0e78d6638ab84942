"""Explanations: where in an image a classifier finds what speaks for a class, and which training images look alike to it."""
