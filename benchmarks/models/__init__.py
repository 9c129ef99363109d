"""Benches of real models: parity with Hugging Face, silent errors, SmolLM2 and its adapters."""
