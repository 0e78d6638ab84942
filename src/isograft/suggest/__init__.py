"""Which unlabeled images are worth labeling next."""
