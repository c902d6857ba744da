"""A run as one page that is opened in a browser: what goes into it, and its own files (`page/`)."""
