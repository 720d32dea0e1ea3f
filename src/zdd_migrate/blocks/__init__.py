"""Building blocks that plans are made of: each exists once, and rooms compose them.

`draft` collects steps by phase, `sync` keeps two shapes of a row in step with one trigger per
table, `twin` copies a column with everything that hangs on it; others build one thing safely.
"""
