"""Beyond what was measured: step times and epochs fitted to a study's runs, carried to other node counts.

``steps`` and ``epochs`` fit the two formulas, ``forecast`` puts them together, ``failures`` adds what nodes that fail
cost. benchmarks/published.py checks the step times against public tables.
"""
