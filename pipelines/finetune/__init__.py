"""Fine-tuning: the baseline that steering is compared with."""
