"""Fine-tuning over several ranks: launcher, reader, loop, checkpoint."""
