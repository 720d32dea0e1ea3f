"""Names of the objects we make ourselves: recognisable, and never longer than Postgres keeps."""

from __future__ import annotations

import hashlib

#: NAMEDATALEN - 1 bytes: Postgres silently cuts what is longer
LIMIT = 63
#: schema of our own functions, journal and trash
ZDD_SCHEMA = "zdd"


def fit(name: str) -> str:
    """`name`, or where it is over 63 bytes its head and a hash of the whole."""
    raw = name.encode()
    if len(raw) <= LIMIT:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:10]
    head = raw[: LIMIT - 11].decode(errors="ignore")
    return f"{head}_{digest}"


def own(*parts: str) -> str:
    """A name for an object of ours: `zdd_` and the parts."""
    return fit("_".join(("zdd", *parts)))
