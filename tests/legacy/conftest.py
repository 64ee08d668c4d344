import warnings

# The package warns when it is first imported; test_former.py has a test of that.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import websockets.legacy  # noqa: F401
