"""The engine: score, place, sweep and rule. It knows no algorithm and imports nothing above it."""
