"""How Horovod's wheel is compiled; every file here is part of the wheel's key in the cache."""
