"""The search for a faster twin of a model file that answers as well."""
