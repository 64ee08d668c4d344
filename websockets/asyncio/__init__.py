"""Clients and servers on :mod:`asyncio`: see the modules."""
