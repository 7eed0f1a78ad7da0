"""Bridges to other formats and tools, each in a module that is imported when it is needed."""
