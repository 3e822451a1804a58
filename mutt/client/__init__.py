"""A client of ingest for programs in Python: events go in one at a time, and out in batches, compressed and retried.

It needs the standard library and requests, and nothing else of MUTT: the folder may be copied into another project.
"""

from .client import Client
from .handler import MuttHandler
from .result import Counts, Full, Rejection

__all__ = ["Client", "Counts", "Full", "MuttHandler", "Rejection"]
