"""A saved model, used on new inputs."""
