"""Faults by seed against a real training job on the Slurm of four nodes that lives on this machine.

``python -m campaigns.chaos --seed 0 --minutes 30 --every 60``; docs/reliability.md says what is done and what came out.
"""
