"""From a model and a folder of clips to scores, figures of merit and pictures."""
