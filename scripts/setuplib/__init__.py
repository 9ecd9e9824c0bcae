"""What scripts/setup_venv.py and scripts/build_horovod.py share; needs nothing but Python's own library."""
