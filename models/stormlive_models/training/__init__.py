"""Training on simulated movies: recipe, data, losses and one loop."""
