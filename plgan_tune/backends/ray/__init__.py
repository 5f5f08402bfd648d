"""The Ray back-end, the only package that imports ray."""
