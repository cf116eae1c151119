"""Training: noisy crops on the fly, greedy and joint phases, exact resume."""
