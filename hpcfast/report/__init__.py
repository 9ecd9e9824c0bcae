"""``hpcfast report``: what runs did and reached, in a table, a picture and one HTML page to show to others.

``runs`` reads a run directory and ``history`` its events; ``table`` prints, ``fooling`` draws what fools each model,
``charts`` lays out curves and ``page`` writes everything into one file that needs nothing else.
"""
