"""Training: the loop, its step, and what is done between epochs."""
