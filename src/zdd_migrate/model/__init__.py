"""The nouns: frozen dataclasses over the standard library alone.

`names` and `locks` are the vocabulary, `schema` is what a database looks like, `statement` what
was read, `effects` what Postgres will do, `finding`, `plan` and `verdict` what we say about it.
"""
