"""Measures of how faithful a visible thought is, each as published, over one interface."""
