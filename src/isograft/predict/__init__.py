"""Classifying images, however many: one row per input, kept while the run goes on."""
