"""Beyond what was measured: step times and epochs fitted to a study's runs, carried to other node counts.

``steps`` and ``epochs`` fit the two formulas, ``model`` makes the time of a run of them, ``forecast`` says it.
benchmarks/published.py checks the step times against public tables.
"""
