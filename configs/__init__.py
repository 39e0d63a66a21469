"""Config files, one a task; installed as `tfmetainit.configs`."""
