"""What `aecli eval` computes."""
