"""One module for each page; each makes the page of a context from it, and from nothing else."""
