"""Scenarios that are run on this library and on the released one, to compare what they do.

- ``scenarios/``: the scenarios, written once against the public API.
- ``scenario.py``: what a scenario writes into its record, and how values are put into words.
- ``ends.py``: servers and clients for scenarios, and peers that speak TCP and nothing else.
- ``play.py``: runs scenarios on whatever ``websockets`` its Python has; prints their records.
- ``__main__.py``: runs that twice, compares, and holds the result against ``differences.toml``.
- ``differences.toml``: what is meant to be different, and why.

A scenario is a function with a docstring under ``@scenario``, of asyncio or not. It notes what it
sees; log records, warnings and what raw peers receive are noted by themselves, each in a track of
its own. It must give the same record each time, also on a busy machine: ``--times 3 --load`` tells.
What two tasks do at the same time belongs into two tracks, and waiting for an event is better than
for a time.
"""
