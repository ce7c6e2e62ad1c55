"""How a model comes about: bank of clips, keyed batches, the loop, checkpoints, the detector, results and card."""
