"""Published claims, and the runs that answer them."""
