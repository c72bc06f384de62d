"""Launchers: the runs of one command on several machines."""
