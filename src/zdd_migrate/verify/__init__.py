"""Trying a plan on a real Postgres with both code versions, in every phase and on every way back."""
