"""``hpcfast report``: what runs did and reached, in a table, a picture and one HTML page to show to others.

``runs`` reads a run directory and ``history`` its events; ``tables`` and ``charts`` are what is shown of them, of which
the terminal prints two tables and ``page`` writes everything into one file that needs nothing else.
"""
