"""What runs in worker processes. `loop` and `orm` need nothing of this package: they also run in the
environment of the code under test."""
