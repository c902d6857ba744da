"""Lightning's Trainer as a run needs it: the loop, the callbacks, the arithmetic."""
