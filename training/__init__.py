"""What train.py is made of: the waveform bank, keyed batches, checkpoints and the allocator's set-up."""
