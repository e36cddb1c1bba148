"""What the numbers mean: selection and statistics."""
