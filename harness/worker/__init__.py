"""The child process in which an implementation computes. Its modules follow the import rule of ``harness.port``."""
