"""Config files, one per experiment; installed as `tfmetainit.configs`."""
