"""ONNXim's way of counting a product on weight-stationary arrays, beside the model of the hardware."""
