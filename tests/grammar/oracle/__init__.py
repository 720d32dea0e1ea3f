"""What Postgres' own parser (libpg_query, through postgast) says a statement is.

`theirs.facts` labels its tree, `ours.facts` labels our operations, in the same words: the kind of
each operation, the objects, columns and types, flags and expressions. Where both understand a
statement the labels must be equal. The two share nothing but `trees`, which makes parts comparable:
text that our reader quotes is parsed again and compared with the part of the tree it stands for.
"""
