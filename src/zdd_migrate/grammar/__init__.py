"""Reading small things: tokens (sqlglot's), a cursor over them, types, expressions, queries.

sqlglot is used by composition only: its tokenizer cuts the text, its parser reads expressions,
types and queries. The DDL around them is read by the operations' own rooms with `Cursor`.
"""
