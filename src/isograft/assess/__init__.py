"""How well a classifier does: figures from labels and probabilities, with numpy and scipy only."""
