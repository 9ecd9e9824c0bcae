"""Beyond what was measured: step times and epochs fitted to a study's runs, carried to other node counts.

``model`` and ``epochs`` are the formulas, ``fit`` finds their few parameters, ``forecast`` puts them together,
``simulate`` adds what no small study shows (failures, queues). benchmarks/published.py checks it all against public
tables.
"""
