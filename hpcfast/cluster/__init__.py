"""Jobs of a batch system."""
