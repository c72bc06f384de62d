"""The child process in which an implementation computes. Its modules import what ``harness.port`` may."""
