"""Training: a plan carried out step by step, from unlabeled images (pretrain) or labeled ones (finetune)."""
