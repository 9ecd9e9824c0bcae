"""How long things take, side by side: ratios are what counts, since machines and their load differ."""
