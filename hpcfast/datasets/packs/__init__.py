"""Writing packs, and copying them to the disks of nodes."""
