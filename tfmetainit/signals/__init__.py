"""The classes of signals: one file each, which a config names.

May import: `signals.base`, `synthetic` and all rooms below them. To add a
class, copy one of these files; none of them imports another.
"""
