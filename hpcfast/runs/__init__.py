"""What a run leaves behind, and how: files, locks, events, the clock, progress and signals."""
