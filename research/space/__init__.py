"""The Space as people use it: an engineer with a machine that the model does not know, many users, and an hour of sound."""
