"""Instances as local processes behind a HAProxy of their own, driven by its runtime API."""
