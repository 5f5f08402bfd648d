"""The Ray back-end, the only package that imports ray."""

from plgan_tune.backends.ray.home import ensure_home

ensure_home()  # before ray is imported, which fails without one
