"""Real images and networks that others have trained: what evaluation says of them, beside plain torch."""
