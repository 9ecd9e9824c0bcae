"""What users do to data before a run: fetch, check, corrupt, generate and pack them."""
