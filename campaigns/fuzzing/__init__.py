"""What ``campaigns/fuzz.py`` reads damaged files with, and how it damages them."""
