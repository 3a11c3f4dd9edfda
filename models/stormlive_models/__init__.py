"""What the frames say about the sample: networks, their training, their weights and their evaluation."""
