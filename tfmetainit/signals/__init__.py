"""Signal classes: one module each, which a config names in `signal.name`.

May import: `signals.base`, `synthetic` and all packages below them. To add a
class, copy one of these modules; none of them imports another.
"""
