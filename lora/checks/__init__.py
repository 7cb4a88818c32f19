"""What test sets do not tell, a number each."""
