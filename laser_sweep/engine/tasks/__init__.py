"""Data sets: rows -> examples with prompts and gold answers -> token ids."""
