"""Ranks: who they are, what they say to one another, and who starts and watches them."""
