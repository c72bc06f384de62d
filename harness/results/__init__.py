"""What happens to records afterwards: published, scored again, submitted, compared with earlier ones."""
