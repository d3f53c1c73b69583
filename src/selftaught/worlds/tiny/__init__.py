"""The tiny world: chains of operations modulo a prime, with several ways to do each step."""
