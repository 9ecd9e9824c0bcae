"""Tests: unit/ in one process, distributed/ under horovodrun and mpirun."""
