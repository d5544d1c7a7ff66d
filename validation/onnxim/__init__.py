"""Cases of ONNXim, and the suite that answers them."""
