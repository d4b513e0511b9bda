"""The `lesion` command: each file a thin skin over one function of the library."""
