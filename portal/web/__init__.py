"""The web faces: parse a request, call one use case, render."""
