"""Doctor: what is right and wrong with a gateway, and the fix."""
