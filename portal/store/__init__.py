"""All SQL of the product, and the only place that talks to a database."""
