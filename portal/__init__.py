"""The application: faces, roots, use cases, domain and storage. See docs/design.md for the plan."""
