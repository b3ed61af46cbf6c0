"""Runs one exercise's tests over every implementation of it, races them, and checks the exercise itself."""
