"""How long things take, side by side: ratios are what counts, since machines and their load differ.

Cases take turns, so that a busy moment hits all alike, and are compared with what ran beside them.
"""
