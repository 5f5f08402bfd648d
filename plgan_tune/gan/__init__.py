"""Networks, layers, losses, schedules and random draws of PL-GAN."""
