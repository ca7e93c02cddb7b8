"""A client of sinkd, the daemon that holds conversations with a language model.

    with sinkd.Client() as client:
        for piece in client.say('sea', 'What is the sea?', create=True, stream=True).text():
            print(piece, end='', flush=True)

AsyncClient is the same for asyncio. Events are in sinkd.events, what replies are made of is in sinkd.records.
"""
from . import events, records
from .aio import AsyncClient, AsyncStream
from .client import Client, Stream
from .errors import (Busy, ConnectionLost, DeviceFailed, DiskFailed, Exists, Gone, Invalid, Malformed, NotFound,
                     OutOfMemory, Protocol, SinkError, Timeout)
from .records import Answer, Info

__version__ = '0.1.0'

__all__ = [
    'Answer', 'AsyncClient', 'AsyncStream', 'Busy', 'Client', 'ConnectionLost', 'DeviceFailed', 'DiskFailed', 'Exists',
    'Gone', 'Info', 'Invalid', 'Malformed', 'NotFound', 'OutOfMemory', 'Protocol', 'SinkError', 'Stream', 'Timeout',
    'events', 'records']
