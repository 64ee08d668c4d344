"""WebSockets (RFC 6455) for Python, on a compiled codec."""
