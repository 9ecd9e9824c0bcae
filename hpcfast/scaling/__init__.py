"""Scaling studies: how long to a given robust accuracy, on how many nodes, at what cost.

Nothing here trains or imports torch: a study is planned, executed by other processes, read from what they left,
shown, and predicted beyond what was measured.
"""
